"""A stack under Prometheus' eyes: every question has an answer, and faults ring at a webhook.

Where Prometheus or Alertmanager is not on the machine, the stack runs without them and so does
this file: it is skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from app.metrics.catalogue import METRICS
from app.metrics.monitoring.alerts import ALERTS
from app.metrics.monitoring.expressions import EXPRESSIONS
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

MISSING = [
    name
    for name, programs in {
        "prometheus": ("prometheus",),
        "prometheus-alertmanager": ("prometheus-alertmanager", "alertmanager"),
    }.items()
    if not any(shutil.which(program) for program in programs)
]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)} (Debian's packages)"
)
ANSWER_S = 240.0
ALERT_S = 420.0
# What has series only after something has happened: a verification, a breach, a change that waits.
LATER = {
    "headwater_verification_passed",
    "headwater_verification_differences",
    "headwater_verification_timestamp_seconds",
    "headwater_expectation_broken_rows",
    "headwater_silver_stopped",
    "headwater_quarantine_rows",
    "headwater_exporter_series_dropped",
}


class Webhook:
    """An address that takes Alertmanager's posts: (alert name, status) in the order of arrival."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen.extend((a["labels"]["alertname"], a["status"]) for a in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the test tells what it saw."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Watched:
    """A running stack, its Prometheus and the webhook that is told."""

    def __init__(self, stack: Stack, webhook: Webhook) -> None:
        self.stack = stack
        self.webhook = webhook
        urls = json.loads(stack.run("urls", "--format", "json").stdout)
        self.prometheus: str = urls["prometheus"]
        self.connect: str = urls["connect"]

    def ask(self, promql: str) -> list[dict[str, Any]]:
        """The series that answer `promql` now."""
        answer = requests.get(
            f"{self.prometheus}/api/v1/query", params={"query": promql}, timeout=30
        )
        found = answer.json()
        assert found["status"] == "success", f"{promql}: {found.get('error')}"
        return list(found["data"]["result"])

    def value(self, promql: str) -> float:
        [series] = self.ask(promql)
        return float(series["value"][1])

    def firing(self) -> set[str]:
        return {s["metric"]["alertname"] for s in self.ask('ALERTS{alertstate="firing"}')}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    webhook = Webhook()
    profile: Path = tmp_path_factory.mktemp("profile") / "alerts.toml"
    profile.write_text(f'alert_webhook_url = "{webhook.url}"\n')
    try:
        with fresh_stack() as fresh:
            fresh.up("--profile", str(profile))
            yield Watched(fresh, webhook)
    finally:
        webhook.close()


def test_prometheus_reaches_every_part(watched: Watched) -> None:
    jobs = {"metrics", "silver", "kafka", "connect", "spark", "trino", "prometheus"}
    until(
        lambda: {s["metric"]["job"]: s["value"][1] for s in watched.ask("up")},
        lambda seen: seen == dict.fromkeys(jobs, "1"),
        within_s=ANSWER_S,
        what="all targets answer",
        every_s=2,
    )


def test_every_metric_of_the_catalogue_has_samples(watched: Watched) -> None:
    wanted = {metric.sample for metric in METRICS if metric.name not in LATER}

    def missing() -> set[str]:
        found = watched.ask('group by (__name__) ({__name__=~"headwater_.+"})')
        return wanted - {series["metric"]["__name__"] for series in found}

    until(missing, lambda left: not left, within_s=ANSWER_S, what="no metric is missing", every_s=2)


def test_every_question_of_a_panel_or_an_alert_has_an_answer(watched: Watched) -> None:
    later = {
        name
        for name, expression in EXPRESSIONS.items()
        if any(re.search(rf"\b{metric}", expression.promql) for metric in LATER)
    }
    absent = {alert.expression for alert in ALERTS if alert.may_be_absent}
    assert absent <= later

    def unanswered() -> list[str]:
        return [n for n, e in EXPRESSIONS.items() if n not in later and not watched.ask(e.promql)]

    for name in later:
        watched.ask(EXPRESSIONS[name].promql)
    # The long windows have answers once they hold two samples.
    later.add("table_events_drop")
    until(unanswered, lambda left: not left, within_s=ANSWER_S, what="all are answered", every_s=5)


def test_prometheus_has_the_rules_and_evaluates_them_without_an_error(watched: Watched) -> None:
    groups = requests.get(f"{watched.prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == {alert.name for alert in ALERTS}
    assert {name: rule.get("lastError", "") for name, rule in rules.items()} == dict.fromkeys(
        rules, ""
    )


def test_edits_are_counted_where_they_pass(watched: Watched) -> None:
    merged = 'sum(headwater_silver_rows_total{table="orders",outcome="upserted"})'
    offsets = 'headwater_table_kafka_offsets_total{table="orders"}'
    before = watched.value(merged), watched.value(offsets)
    with watched.stack.source() as source:
        source.execute("UPDATE orders SET status = status")
    until(
        lambda: (watched.value(merged), watched.value(offsets)),
        lambda now: now[0] > before[0] and now[1] > before[1],
        within_s=ANSWER_S,
        what="orders' rows and offsets are counted",
        every_s=1,
    )


def test_a_stopped_connector_and_a_hung_silver_ring_and_end(watched: Watched) -> None:
    silver = psutil.Process(watched.stack.status()["silver"]["pid"])
    frozen = [silver, *silver.children(recursive=True)]
    for process in frozen:
        os.kill(process.pid, signal.SIGSTOP)
    requests.put(f"{watched.connect}/connectors/bronze/pause", timeout=30).raise_for_status()
    expected = {"ConnectorFailed", "BatchStuck", "ProbeLate"}
    try:
        until(
            lambda: {name for name, status in watched.webhook.seen if status == "firing"},
            lambda seen: expected <= seen,
            within_s=ALERT_S,
            what=f"{expected} at the webhook",
            every_s=2,
        )
    finally:
        for process in frozen:
            os.kill(process.pid, signal.SIGCONT)
        requests.put(f"{watched.connect}/connectors/bronze/resume", timeout=30)
    until(
        lambda: {name for name, status in watched.webhook.seen if status == "resolved"},
        lambda seen: expected <= seen,
        within_s=ALERT_S,
        what=f"the end of {expected} at the webhook",
        every_s=2,
    )
    assert not watched.firing() & expected

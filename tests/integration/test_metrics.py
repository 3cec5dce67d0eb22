"""A stack with Prometheus: every panel and rule has data, and failures send alerts to a webhook.

All tests use one stack, in which alerts wait a tenth of the normal time and have the normal expressions.
If the machine lacks Prometheus or Alertmanager, this file is skipped
(`tests/e2e/test_pipeline_metrics.py` reads the services' own metrics everywhere).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from app.lake.lakehouse import Lakehouse
from app.launcher.state import Home
from app.metrics.metric_list import ALERTS, DASHBOARDS, METRICS
from app.metrics.monitoring import runbook
from tests.support.frozen import frozen
from tests.support.optional_metrics import WITHOUT_SERIES
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
ALERT_S = 240.0
# `streams` starts only if it is named.
ASKED_IN_VAIN = {"Events against the quietest quarter", "Histories: not where silver is",
                 "Streams: stopped", "Streams: events not in silver", "Streams: events",
                 "Audit: questions", "Audit: denied, last 5 min", "Audit: missing, last 15 min",
                 "Rules not applied", "Jobs whose latest run failed", "Jobs that are late",
                 "Time of the latest run", "Since the last success"}  # fmt: skip
# Users' queries need `tables` only for views, so killing it hides no other failure.
SERVICES = ("prometheus", "alertmanager", "tables", "capture")
KILLED = "tables"

TAGS = """
[columns.relevance]
max = 100

[[expectations]]
name = "relevance_is_small"
condition = "relevance <= 10"
action = "warn"

[[conditions]]
name = "great_relevances"
value = "count_if(relevance > 10)"
max = 0
every = "10s"
"""
GENRES = """
[[expectations]]
name = "is_a_genre"
condition = "name <> 'none'"
action = "fail"
"""
# Half of the normal time, so that a hanging silver is late sooner.
ORDERS = 'freshness = "30s"\n'
# Their windows are longer than a test, so the tests only see them fire.
DATA_RINGS = {"QuarantineRate", "DataCondition", "TableStopped", "VerifyDiffers"}
RINGS_LONG = {"ExpectationBreached", "ServiceRestarting"}
PARTS_RING = {"TableStale", "ConnectorFailed", "SlotInactive"}


class Webhook:
    """Two webhooks for Alertmanager, like those of two teams.

    `seen`: (alert name, status) in the order of arrival; `teams`: team → the alerts that it got;
    `slack`: the attachments that came as a message for Slack.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.teams: dict[str, set[str]] = {"platform": set(), "data-engineering": set()}
        self.slack: list[dict[str, str]] = []
        seen, teams, slack = self.seen, self.teams, self.slack

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                slack.extend(body.get("attachments", []))
                told = [(a["labels"]["alertname"], a["status"]) for a in body.get("alerts", [])]
                teams.get(self.path.strip("/"), set()).update(name for name, _ in told)
                seen.extend(told)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing: the test reports what it received."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def last(self) -> dict[str, str]:
        """Alert → its last status: firing or resolved."""
        return dict(self.seen)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Watched:
    """A running stack, its Prometheus and the webhook."""

    def __init__(self, stack: Stack, webhook: Webhook) -> None:
        self.stack = stack
        self.webhook = webhook
        urls = stack.urls()
        self.prometheus: str = urls["prometheus"]

    def ask(self, promql: str) -> list[dict[str, Any]]:
        """The current series of `promql`."""
        answer = requests.get(
            f"{self.prometheus}/api/v1/query", params={"query": promql}, timeout=30
        )
        found = answer.json()
        assert found["status"] == "success", f"{promql}: {found.get('error')}"
        return list(found["data"]["result"])

    def value(self, promql: str) -> float:
        [series] = self.ask(promql)
        return float(series["value"][1])

    def edit(self, *statements: str) -> None:
        with self.stack.source() as source:
            for statement in statements:
                source.execute(statement)

    def forge_tags(self) -> None:
        """Delete a row without silver's knowledge, so that no quarantine explains the difference."""
        Lakehouse(self.stack.settings).silver("tags").delete(predicate="tag_id = 100")

    def verify_tags(self) -> None:
        """Run one round of the continuous verification, whose verdict becomes metrics."""
        told = self.stack.run("verify", "tags", "--continuous", "--rounds", "1", expect=None)
        print(f"verify: exit code {told.returncode}: {told.stderr}")

    def pid(self, service: str) -> int | None:
        return Home(self.stack.home).snapshot().services[service].pid

    def await_last(
        self, expected: set[str], status: str, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until the webhook's last status of each of these alerts is `status`."""

        def told() -> dict[str, str]:
            meanwhile()
            return self.webhook.last()

        until(
            told,
            lambda last: all(last.get(name) == status for name in expected),
            within_s=ALERT_S,
            what=f"{sorted(expected)} {status} at the webhook",
            every_s=1,
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    webhook = Webhook()
    profile: Path = tmp_path_factory.mktemp("profile") / "alerts.toml"
    profile.write_text(
        f'alert_webhook_url = "{webhook.url}/platform"\n'
        f'data_alert_webhook_url = "{webhook.url}/data-engineering"\n'
        f'data_alert_slack_url = "{webhook.url}/slack"\n'
        "alert_wait_factor = 0.1\n"
    )
    try:
        with fresh_stack() as fresh:
            contracts = fresh.settings.contracts_dir
            contracts.mkdir()
            (contracts / "public.tags.toml").write_text(TAGS)
            (contracts / "public.genres.toml").write_text(GENRES)
            (contracts / "public.orders.toml").write_text(ORDERS)
            fresh.up("--profile", str(profile), "--only", *SERVICES)
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
        every_s=1,
    )


def test_edits_are_counted_where_they_pass(watched: Watched) -> None:
    merged = 'sum(headwater_silver_rows_total{table="orders",outcome="upserted"})'
    offsets = 'headwater_table_kafka_offsets_total{table="orders"}'
    before = until(
        lambda: (watched.value(merged), watched.value(offsets)),
        within_s=ANSWER_S,
        what="figures of orders",
        every_s=1,
    )
    watched.edit("UPDATE orders SET status = status")
    until(
        lambda: (watched.value(merged), watched.value(offsets)),
        lambda now: now[0] > before[0] and now[1] > before[1],
        within_s=ANSWER_S,
        what="orders' rows and offsets are counted",
        every_s=1,
    )


def test_bad_rows_and_a_service_that_ends_again_and_again_ring(watched: Watched) -> None:
    quarantined = 'headwater_silver_rows_total{table="tags",outcome="quarantined"}'
    until(lambda: watched.ask(quarantined), within_s=ANSWER_S, what="tags are counted", every_s=1)
    watched.edit(
        "UPDATE tags SET relevance = 1000 WHERE tag_id <= 40",
        "UPDATE tags SET relevance = 50 WHERE tag_id BETWEEN 41 AND 45",
        "UPDATE genres SET name = 'none' WHERE genre_id = 1",
    )
    until(
        lambda: watched.value(quarantined) >= 40,
        within_s=ANSWER_S,
        what="the bad rows are in quarantine",
        every_s=1,
    )
    watched.forge_tags()
    watched.verify_tags()
    killed: set[int | None] = {None}

    def kill_again() -> None:
        pid = watched.pid(KILLED)
        if pid not in killed and "ServiceRestarting" not in watched.webhook.last():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)

    watched.await_last(DATA_RINGS | RINGS_LONG, "firing", meanwhile=kill_again)
    until(
        lambda: watched.value('headwater_incidents_total{kind="table"}'),
        within_s=ANSWER_S,
        what="the stopped table is an incident",
        every_s=1,
    )
    # Repaired in the source; then good rows until fewer than one in a hundred are bad.
    good = "UPDATE tags SET relevance = 1"
    (watched.stack.settings.contracts_dir / "public.genres.toml").unlink()
    watched.edit(
        "UPDATE genres SET name = 'Comedy again' WHERE genre_id = 1",
        "ALTER TABLE tags ADD COLUMN note text",
        good,
    )
    until(
        lambda: watched.value('headwater_table_offsets_behind{table="tags",hop="silver"}') == 0,
        within_s=ANSWER_S,
        what="the repaired rows are merged",
        every_s=1,
    )

    # A batch counts each row once, so the number of repetitions of the table that suffices is unknown.
    # And the deleted row makes a merge fail, so silver stops the table for a moment.
    def good_again() -> None:
        watched.edit(good)
        watched.verify_tags()

    watched.await_last(DATA_RINGS, "resolved", meanwhile=good_again)
    until(
        lambda: watched.value('headwater_incidents_open{kind="table"}'),
        lambda count: count == 0,
        within_s=ANSWER_S,
        what="the stopped table's incident ends",
        every_s=1,
    )


def test_each_team_was_told_of_its_own_alerts_and_of_no_others(watched: Watched) -> None:
    teams = {alert.name: alert.team for alert in ALERTS}
    for team, told in watched.webhook.teams.items():
        assert told, team
        assert {teams[name] for name in told} == {team}


def test_a_message_in_slack_says_what_is_wrong_and_leads_to_what_to_do(watched: Watched) -> None:
    told = [one for one in watched.webhook.slack if one["title"] == "FIRING: DataCondition"]
    assert told, watched.webhook.slack
    assert "Condition great_relevances of tags does not hold. Now 1." in told[0]["text"]
    assert told[0]["title_link"] == f"{watched.prometheus}{runbook.PATH}#datacondition"


def test_every_metric_of_the_catalogue_has_samples(watched: Watched) -> None:
    wanted = {metric.sample for metric in METRICS if not re.search(WITHOUT_SERIES, metric.name)}

    def missing() -> set[str]:
        found = watched.ask('group by (__name__) ({__name__=~"headwater_.+"})')
        return wanted - {series["metric"]["__name__"] for series in found}

    until(missing, lambda left: not left, within_s=ANSWER_S, what="no metric is missing", every_s=2)


def test_every_question_of_a_panel_or_an_alert_has_an_answer(watched: Watched) -> None:
    def unanswered() -> list[str]:
        return [
            panel.title
            for board in DASHBOARDS
            for panel in board.panels
            if not all(watched.ask(query.promql) for query in panel.queries)
        ]

    until(
        unanswered,
        lambda left: set(left) <= ASKED_IN_VAIN,
        within_s=ANSWER_S,
        what="all are answered",
        every_s=3,
    )


def test_prometheus_has_the_rules_and_evaluates_them_without_an_error(watched: Watched) -> None:
    groups = requests.get(f"{watched.prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == {alert.name for alert in ALERTS}
    assert {name: rule.get("lastError", "") for name, rule in rules.items()} == dict.fromkeys(
        rules, ""
    )


def test_the_link_of_an_alert_opens_its_section_of_the_runbook(watched: Watched) -> None:
    groups = requests.get(f"{watched.prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"]
    links = {r["name"]: r["annotations"]["runbook_url"] for g in groups for r in g["rules"]}
    for name, link in links.items():
        page = requests.get(link, timeout=30)
        assert page.headers["Content-Type"].startswith("text/html")
        assert f'id="{urlsplit(link).fragment}">{name}</h2>' in page.text


@pytest.mark.slow
def test_a_held_slot_and_a_silver_that_hangs_ring_and_end(watched: Watched) -> None:
    # By default the source notices a silent reader only after a minute.
    watched.edit("ALTER SYSTEM SET wal_sender_timeout = '20s'", "SELECT pg_reload_conf()")
    with frozen(watched.pid("silver")):
        watched.edit("UPDATE orders SET status = status")
        until(
            lambda: watched.value('headwater_table_offsets_behind{table="orders",hop="silver"}'),
            within_s=ANSWER_S,
            what="orders wait in Kafka for silver",
            every_s=0.5,
        )
        with frozen(watched.pid("connect")):
            watched.await_last(PARTS_RING, "firing")
            told = watched.stack.run("status").stdout
            assert all(name in told for name in PARTS_RING)
    watched.await_last(PARTS_RING, "resolved")
    firing = {s["metric"]["alertname"] for s in watched.ask('ALERTS{alertstate="firing"}')}
    assert not firing & (PARTS_RING | DATA_RINGS)

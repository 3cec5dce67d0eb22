"""The metrics that Prometheus would scrape, read from the services themselves, so that no Prometheus is needed."""

from __future__ import annotations

import re

import requests

from app.hops import PROBED, WITH_LSN
from app.metrics.metric_list import METRICS
from tests.support.optional_metrics import WITHOUT_SERIES
from tests.support.stack import Stack
from tests.support.waiting import until

# The exporter starts last, and a failed collector retries within a minute.
SOON_S = 300.0
# Metrics that have series only after an event in other tests, such as a verification or a breach.
LATER = re.compile(f"{WITHOUT_SERIES}|verification|expectation|quarantine|slot_seconds_until")


def samples(stack: Stack, service: str, path: str = "") -> dict[str, float]:
    """Sample name (with labels) → value, from a service's own endpoint."""
    urls = stack.urls()
    answer = requests.get(urls[service] + path, timeout=10)
    answer.raise_for_status()
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    # A Java agent may add a time after the value; names and labels end at the last brace.
    found = re.compile(r"(\S+?(?:\{.*\})?) (\S+)")
    matches = [found.match(line) for line in lines]
    return {match[1]: float(match[2]) for match in matches if match}


def names(stack: Stack, service: str, path: str = "") -> set[str]:
    return {sample.split("{")[0] for sample in samples(stack, service, path)}


def test_the_exporter_tells_every_metric_of_its_catalogue(stack: Stack) -> None:
    wanted = {metric.sample for metric in METRICS if not LATER.search(metric.name)}
    until(
        lambda: wanted - names(stack, "metrics"),
        lambda missing: not missing,
        within_s=SOON_S,
        what="no metric is missing",
        every_s=1,
    )


def test_every_collector_works_and_probes_reach_every_hop(stack: Stack) -> None:
    def failing() -> list[str]:
        found = samples(stack, "metrics")
        wanted = [f'headwater_probe_seconds_count{{hop="{hop}"}}' for hop in PROBED]
        down = [n for n, v in found.items() if n.startswith("headwater_collector_up") and v != 1]
        return down + [name for name in wanted if not found.get(name)]

    until(failing, lambda left: not left, within_s=SOON_S, what="all collectors work", every_s=1)


def test_each_hop_tells_how_much_wal_it_does_not_have(stack: Stack) -> None:
    wanted = {f'headwater_lsn_behind_bytes{{hop="{hop}"}}' for hop in WITH_LSN}
    for hop in ("bronze", "silver"):
        wanted.add(f'headwater_table_lsn_behind_bytes{{hop="{hop}",table="orders"}}')
    until(
        lambda: wanted - set(samples(stack, "metrics")),
        lambda missing: not missing,
        within_s=SOON_S,
        what="no hop is missing",
        every_s=1,
    )


def test_silver_tells_of_its_maintenance(stack: Stack) -> None:
    wanted = {'_failing{table="ops.ledger"}', '_failures_total{table="ops.ledger"}'}
    wanted |= {"_waiting_seconds", "_seconds_count", "_removed_files_total", "_joined_files_total"}
    until(
        lambda: (
            {f"headwater_silver_maintenance{name}" for name in wanted}
            - set(samples(stack, "silver_metrics"))
        ),
        lambda missing: not missing,
        within_s=SOON_S,
        what="no figure of maintenance is missing",
        every_s=1,
    )


def test_kafka_connect_debezium_and_spark_tell_their_figures(stack: Stack) -> None:
    for service, path, wanted in [
        ("kafka", "", "kafka_server_messagesin_total"),
        ("connect", "", "debezium_streaming_millisecondsbehindsource"),
        ("spark", "/metrics/prometheus/", "metrics_silver_driver_spark_streaming_silver_latency_Value"),
    ]:  # fmt: skip
        name = service if service == "spark" else f"{service}_metrics"
        assert wanted in names(stack, name, path)


def test_after_a_snapshot_no_table_is_left_but_the_signal_table(stack: Stack) -> None:
    """Debezium counts this table but never reads it, so the panel's expression excludes it."""

    def snapshot() -> tuple[float, float]:
        found = samples(stack, "connect_metrics")
        running, left = ("snapshotrunning", "remainingtablecount")
        return found[f"debezium_snapshot_{running}"], found[f"debezium_snapshot_{left}"]

    until(
        snapshot,
        # A restarted worker has read no tables, so it counts none.
        lambda seen: seen in ((0, 1), (0, 0)),
        within_s=SOON_S,
        what="(running, tables left) of a finished snapshot",
        every_s=1,
    )

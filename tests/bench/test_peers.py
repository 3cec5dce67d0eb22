"""Headwater beside its peers: the same machine, run, source and seeded changes; equality first.

`HEADWATER_BENCH_CHANGES` makes it smaller, `HEADWATER_BENCH_FRESH_S=0` leaves freshness out. One contender alone:
`pytest tests/bench/test_peers.py -s -k bare-loop-full`. Nothing here asserts a time; a verdict that is not the expected
one fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.bench.peers.batch_floor import BatchFloor
from tests.bench.peers.bronze_sinks import BronzeSink, IcebergSink, OwnBronze
from tests.bench.peers.bronze_trial import bronze_trial
from tests.bench.peers.contender import Contender
from tests.bench.peers.flink import Flink
from tests.bench.peers.headwater import Headwater
from tests.bench.peers.kafka_fed import BareLoop, SparkMerge
from tests.bench.peers.trial import trial
from tests.support.measure import report

CHANGES = int(os.environ.get("HEADWATER_BENCH_CHANGES", "200000"))
FRESH_S = float(os.environ.get("HEADWATER_BENCH_FRESH_S", "60"))
# Peers that need more of the source than its default are shown without it too, by fewer changes.
SHARE_OF_A_CHECK = 10
MEASURED: dict[str, Callable[[], Contender]] = {
    "headwater": Headwater,
    "bare-loop-full": lambda: BareLoop("FULL"),
    "spark-merge-full": lambda: SparkMerge("FULL"),
    "flink-iceberg-full": lambda: Flink("iceberg", "FULL"),
    "flink-paimon-full": lambda: Flink("paimon", "FULL"),
    "dlt-replace": lambda: BatchFloor("replace"),
}
CHECKED: dict[str, Callable[[], Contender]] = {
    "bare-loop-default": lambda: BareLoop("DEFAULT"),
    "spark-merge-default": lambda: SparkMerge("DEFAULT"),
    "flink-iceberg-default": lambda: Flink("iceberg", "DEFAULT"),
    "flink-paimon-default": lambda: Flink("paimon", "DEFAULT"),
    "dlt-merge": lambda: BatchFloor("merge"),
}
SINKS: dict[str, Callable[[], BronzeSink]] = {"bronze": OwnBronze, "iceberg-sink": IcebergSink}
# What a change of a peer's version or settings may alter; all others are `equal`. README.md says why.
EXPECTED = {
    "bare-loop-default": "differs",
    "spark-merge-default": "differs",
    "flink-iceberg-default": "differs",
    "flink-paimon-default": "differs",
    "dlt-merge": "differs",
}
pytestmark = pytest.mark.timeout(3_600)
workloads: set[str] = set()


@pytest.mark.parametrize("name", MEASURED)
def test_a_contender_by_the_same_changes(name: str) -> None:
    fresh_s = 0 if name.startswith("dlt") else FRESH_S
    found = trial(MEASURED[name](), changes=CHANGES, fresh_s=fresh_s)
    _report(name, found)
    if "workload" in found:
        workloads.add(found["workload"])
    assert len(workloads) <= 1, "the contenders did not get the same changes"


@pytest.mark.parametrize("name", CHECKED)
def test_the_equality_of_a_peer_without_its_own_demands(name: str) -> None:
    found = trial(CHECKED[name](), changes=max(CHANGES // SHARE_OF_A_CHECK, 2_000), fresh_s=0)
    kept = ("contender", "replica_identity", "settings", "changes", "seed", "verdict", "how")
    _report(name, {"kind": "verdict", **{key: found[key] for key in kept if key in found}})


@pytest.mark.parametrize("name", SINKS)
def test_a_sink_of_raw_events_by_the_same_burst(name: str) -> None:
    _report(name, bronze_trial(SINKS[name](), changes=CHANGES))


def _report(name: str, found: dict[str, Any]) -> None:
    """Print and keep the report, and compare its verdict with the expected one."""
    expected = EXPECTED.get(name, "equal")
    report(f"peers_{name}", {"name": name, **found, "expected": expected})
    verdict = found["verdict"]
    assert verdict == expected, f"{name}: expected {expected}, got {verdict}: {found.get('how')}"

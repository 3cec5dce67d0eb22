"""How the comparison with peers judges sinks of raw events, prints its reports, and ends what it started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.processes.process import start_time
from tests.bench import test_peers as bench
from tests.bench.peers.bronze_trial import compared
from tests.bench.peers.table import read, tables
from tests.support.bronze import Place
from tests.support.stack import ROOT
from tests.support.waiting import until

A, B, C = (Place("t", 0, offset) for offset in range(3))


def test_equal_events_have_no_differences() -> None:
    assert compared([(B, "b"), (A, "a")], {A: "a", B: "b"}) == []


def test_a_missing_repeated_unknown_or_changed_event_is_named_with_its_place() -> None:
    assert compared([(B, "b"), (B, "b"), (C, "c")], {A: "a", B: "x"}) == [
        "1 events missing, the first: t 0 0",
        "1 events there more than once, the first: t 0 1",
        "1 events not in Kafka, the first: t 0 2",
        "2 events with another value, the first: t 0 1, t 0 1",
    ]


def test_the_tables_have_figures_only_of_equal_contenders(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = [
        {
            "name": "fast", "verdict": "equal", "expected": "equal", "changes_per_s": 12000,
            "changes_per_cpu_s": 9000, "changes_per_cpu_s_without_source": 11000, "first_rows_s": 7.5,
            "freshness_s": {"p50": 0.5, "p95": 1.25}, "total_mib": 1500,
        },
        {"name": "wrong", "verdict": "differs", "expected": "equal", "how": ["a: b"]},
        {
            "name": "sink", "kind": "bronze", "verdict": "equal", "events_per_s": 50000,
            "events_per_cpu_s": 40000, "events_per_cpu_s_of_the_sink": 45000, "files": 8, "bytes_per_event": 60,
            "sink_mib": 400,
        },
        {"name": "key", "kind": "verdict", "replica_identity": "DEFAULT", "verdict": "differs", "how": ["t: 1 | 2"]},
    ]  # fmt: skip
    for report in reports:
        (tmp_path / f"peers_{report['name']}.json").write_text(json.dumps(report))
    assert tables(read(tmp_path)).splitlines() == [
        "| contender | all rows | changes a second | changes a CPU-second | without Postgres | freshness p50 / p95 "
        "| first rows | memory of all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `fast` | equal | 12,000 | 9,000 | 11,000 | 0.50 s / 1.25 s | 7.5 s | 1,500 MiB |",
        "| `wrong` | differs (expected equal) | – | – | – | – | – | – |",
        "",
        "| contender | each event once | events a second | events a CPU-second | of the sink's own | files "
        "| bytes an event | memory of the sink |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `sink` | equal | 50,000 | 40,000 | 45,000 | 8 | 60 | 400 MiB |",
        "",
        "| contender | replica identity | all rows | how |",
        "| --- | --- | --- | --- |",
        r"| `key` | DEFAULT | differs | t: 1 \| 2 |",
    ]


def test_an_unexpected_verdict_says_what_was_expected_and_how_it_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(AssertionError, match="dlt-merge: expected differs, got equal"):
        bench._report("dlt-merge", {"verdict": "equal"})
    with pytest.raises(
        AssertionError, match=r"bare-loop-full: expected equal, got differs: .*t: 1"
    ):
        bench._report("bare-loop-full", {"verdict": "differs", "how": ["t: 1"]})
    bench._report("headwater", {"verdict": "equal"})
    assert '"expected": "equal"' in capsys.readouterr().out


def test_each_expected_verdict_is_of_a_contender() -> None:
    assert (
        bench.EXPECTED.keys() <= bench.MEASURED.keys() | bench.CHECKED.keys() | bench.SINKS.keys()
    )


def test_the_kernel_kills_a_contender_with_the_benchmark(tmp_path: Path) -> None:
    benchmark = (
        "from pathlib import Path; from tests.bench.peers.contender import Program; import sys, time\n"
        f"program = Program('peer', ['sleep', '600'], Path({str(tmp_path)!r})); program.start()\n"
        "print(program.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", benchmark], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        contender = int(process.stdout.readline())
        assert start_time(contender) is not None
        process.kill()
    until(lambda: start_time(contender) is None, within_s=30, what="the contender's end")

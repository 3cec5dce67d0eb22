"""The problems in `status`, from recorded answers of the services."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from app.cli.status import problems
from app.cli.status.problems import TABLES_SHOWN, Check, find_problems, gap_problem
from app.environment.settings import load
from app.health.connector_health import (
    ConnectWorkers,
    ask,
    connector_problems,
    retries_of,
    root_cause,
)
from app.health.problem import CAUSE_CHARS_MAX, Problem, one_line
from app.lake.lakehouse import LedgerEntry
from app.lake.stopped_tables import table_problems
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.position import HighWater
from spark_streaming.ops.incident_rows import OPEN, Incident

NOW = datetime(2026, 11, 22, 19, 46, 5, tzinfo=timezone.utc)
# From Kafka Connect's log.
LOG = """\
2026-11-22T19:45:59.384Z WARN  BaseSourceTask [source|task-0] Going to restart connector after 2 sec. after a retriable exception
2026-11-22T19:45:59.387Z WARN  AbstractWorkerSourceTask [source|task-0] ExactlyOnceWorkerSourceTask{id=source-0} failed to poll records from SourceTask. Will retry operation.
org.apache.kafka.connect.errors.RetriableException: An exception occurred in the change event producer. This connector will be restarted.
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)
Caused by: org.apache.kafka.connect.errors.RetriableException: Could not execute heartbeat action query (Error: 57P03)
\tat io.debezium.heartbeat.DatabaseHeartbeatImpl.emit(DatabaseHeartbeatImpl.java:59)
Caused by: org.postgresql.util.PSQLException: FATAL: the database system is starting up
\t... 8 more
2026-11-22T19:46:00.838Z INFO  JdbcConnection [source|task-0] Connection gracefully closed
2026-11-22T19:46:01.000Z WARN  BronzeSinkTask [bronze|task-0] trying again in 800 ms: the store does not answer: connection refused
2026-11-22T19:46:02.000Z WARN  NetworkClient [Producer clientId=x] Bootstrap broker disconnected
"""
CONNECTED = "debezium_streaming_connected 1.0\ndebezium_snapshot_snapshotrunning 0.0\n"
APART = CONNECTED.replace("connected 1.0", "connected 0.0")


def status(kind: str, task: str = "RUNNING", trace: str = "") -> dict[str, Any]:
    tasks = [{"id": 0, "state": task, "trace": trace}]
    return {"connector": {"state": "RUNNING"}, "tasks": tasks, "type": kind}


def test_the_innermost_cause_of_the_newest_retry_is_read_from_the_log() -> None:
    found = retries_of(LOG)
    assert {name: cause for name, (_, cause) in found.items()} == {
        "source": "org.postgresql.util.PSQLException: FATAL: the database system is starting up",
        "bronze": "trying again in 800 ms: the store does not answer: connection refused",
    }
    assert found["source"][0] == datetime(2026, 11, 22, 19, 45, 59, tzinfo=timezone.utc)
    assert retries_of("") == {} and root_cause([]) == ""


def test_a_source_that_is_running_and_not_connected_is_retrying_with_its_cause() -> None:
    [found] = connector_problems({"source": status("source")}, APART, retries_of(LOG), NOW)
    assert (found.part, found.state) == ("connector source", "retrying")
    assert "the database system is starting up" in found.cause
    assert "headwater logs connect" in found.hint


@pytest.mark.parametrize("metrics", [CONNECTED, APART + "debezium_snapshot_snapshotrunning 1.0"])
def test_a_source_that_reads_or_makes_its_snapshot_is_well_whatever_it_had_before(
    metrics: str,
) -> None:
    metrics = metrics.replace("debezium_snapshot_snapshotrunning 0.0\ndebezium", "debezium")
    assert connector_problems({"source": status("source")}, metrics, retries_of(LOG), NOW) == []


def test_a_source_without_a_metric_is_starting_where_nothing_failed() -> None:
    [found] = connector_problems({"source": status("source")}, "", {}, NOW)
    assert (found.state, found.cause) == ("starting", "it does not read the source's log yet")
    assert connector_problems({"source": status("source")}, None, {}, NOW) == []


def test_a_source_that_retries_is_told_where_its_metrics_cannot_be_had() -> None:
    found = connector_problems({"source": status("source")}, None, retries_of(LOG), NOW)
    assert [one[:2] for one in found] == [("connector source", "retrying")]
    assert "the database system is starting up" in found[0].cause
    later = NOW + timedelta(minutes=2)
    assert connector_problems({"source": status("source")}, None, retries_of(LOG), later) == []


def test_a_worker_that_does_not_answer_hides_no_connector_that_retries(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    log = tmp_path / "stderr.log"
    log.write_text(LOG.replace("2026-11-22T19:46:0", f"{now:%Y-%m-%dT%H:%M:}0"))
    nowhere = "http://user:secret@127.0.0.1:9"
    found = ask(ConnectWorkers([nowhere], [nowhere], [log]))
    assert found[0][:2] == ("connectors", "not known") and "secret" not in str(found)
    assert [one[:2] for one in found[1:]] == [("connector bronze", "retrying")]


def test_a_sink_is_retrying_for_as_long_as_it_says_so() -> None:
    sink = {"bronze": status("sink")}
    [found] = connector_problems(sink, CONNECTED, retries_of(LOG), NOW)
    assert (found.part, found.state) == ("connector bronze", "retrying")
    assert "connection refused" in found.cause and "status s3" in found.hint
    later = NOW + timedelta(minutes=1)
    assert connector_problems(sink, CONNECTED, retries_of(LOG), later) == []


def test_a_failed_task_is_told_with_its_innermost_cause() -> None:
    trace = "a.B: outer\n\tat x\nCaused by: c.D: inner\n\tat y\n\t... 3 more"
    [found] = connector_problems({"source": status("source", "FAILED", trace)}, CONNECTED, {}, NOW)
    assert found[:3] == ("connector source", "failed", "c.D: inner")
    stopped = {"connector": {"state": "STOPPED"}, "tasks": [], "type": "source"}
    [found] = connector_problems({"source": stopped}, CONNECTED, {}, NOW)
    assert (found.state, found.hint) == ("stopped", "`./headwater logs capture` says why")
    empty = {"connector": {"state": "RUNNING"}, "tasks": [], "type": "source"}
    [found] = connector_problems({"source": empty}, CONNECTED, {}, NOW)
    assert found.state == "waiting"


def test_looks_that_fail_or_hang_are_told_and_hold_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "CHECK_S", 0.3)
    hang = threading.Event()
    fine = Problem("table public.t", "stopped", "no space", "resume it")

    def fails(_: object) -> list[Problem]:
        raise OSError("the store does not answer\nat all")

    def hangs(_: object) -> list[Problem]:
        hang.wait(60)
        return []

    looks = (
        Check("a", "kafka", lambda _: [fine]),
        Check("b", "kafka", fails),
        Check("c", "kafka", hangs),
        Check("d", "trino", fails),
    )
    found = find_problems(load(tmp_path), ["kafka"], looks)
    hang.set()
    assert found == [
        fine,
        Problem("b", "not known", "the store does not answer"),
        Problem("c", "not known", "no answer within 0.3 s"),
    ]


def test_a_cause_is_one_line_and_bounded() -> None:
    assert one_line("a\n  b") == "a b"
    assert len(one_line("x" * 5_000)) == CAUSE_CHARS_MAX


def entry(table: str, state: str, reason: str | None = None) -> LedgerEntry:
    return LedgerEntry(
        table=table, batch_id=1, delta_version=1, offsets={}, complete_lsn=None, merged_at=NOW,
        high_water=HighWater(), state=state, reason=reason,
    )  # fmt: skip


def test_a_table_that_silver_has_halted_is_told_with_its_reason_and_those_that_run_are_not() -> (
    None
):
    found = table_problems(
        [entry("b", "stopped", "no\nspace"), entry("a", "running"), entry("c", "refused")]
    )
    assert [one[:3] for one in found] == [
        ("table b", "stopped", "no space"),
        ("table c", "refused", "silver gives no reason"),
    ]
    assert "headwater resume b" in found[0].hint and "contract plan" in found[1].hint


@pytest.mark.parametrize(
    ("count", "end"),
    [
        (0, "from the source: all tables"),
        (2, "from the source: public.t0, public.t1"),
        (TABLES_SHOWN + 2, "and 2 more"),
    ],
)
def test_tables_that_are_read_again_after_a_gap_are_named(count: int, end: str) -> None:
    tables = tuple(f"public.t{n}" for n in range(count))
    gap = Incident(
        "g1", NOW, OPEN, "gap", "headwater", tables, Lsn(1), Lsn(9), "the slot is gone", None, NOW
    )
    found = gap_problem(gap)
    assert found[:2] == ("silver", "reading again")
    assert "2026-11-22 19:46:05 UTC" in found.cause and found.cause.endswith(end)
    assert "verify" in found.hint and "g1" in found.hint

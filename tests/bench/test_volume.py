"""Volume: a snapshot of a million rows, and a burst of 200,000 mixed changes.

The time runs from the start of the writes (burst) or of the capture (snapshot) until silver,
compared row by row, equals the source. The comparison's own time is reported separately.
"""

from __future__ import annotations

import time

import psycopg
from sqlalchemy import create_engine

from app.lake.lakehouse import Lakehouse
from app.store.workload.load_tables import BenchWorkload
from tests.support.measure import report, watched
from tests.support.stack import Stack
from tests.support.waiting import until

SNAPSHOT_ROWS = 1_000_000
BURST_CHANGES = 200_000
BURST_TABLES = 4
DRAIN_S = 1_200.0


def test_a_snapshot_of_a_million_rows(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE SCHEMA IF NOT EXISTS apart")
        # In one transaction, so that the rows exist when the capture first sees the table. Then
        # they come by an incremental snapshot, like a million rows of a user's table.
        with source.transaction():
            source.execute(
                "CREATE TABLE apart.big (id bigint PRIMARY KEY, v int, note text, "
                "price numeric(12,2), at timestamptz)"
            )
            source.execute(
                "INSERT INTO apart.big SELECT i, i % 1000, 'note ' || md5(i::text), i / 100.0, "
                f"now() FROM generate_series(1, {SNAPSHOT_ROWS}) i"
            )
        began = time.monotonic()
        with watched(stack) as resources:
            until(
                lambda: count(stack, "apart__big"),
                lambda rows: rows == SNAPSHOT_ROWS,
                within_s=DRAIN_S,
                what="the million rows in Trino",
                every_s=1,
            )
        took = time.monotonic() - began
        [verdict] = stack.verify("apart__big", timeout_s=600)
        assert verdict["verdict"] == "equal"
        began_trace = time.monotonic()
        stack.run("trace", "apart__big", str(SNAPSHOT_ROWS // 3), "--format", "json")
        traced = time.monotonic() - began_trace
        events = SNAPSHOT_ROWS
        source.execute("DROP TABLE apart.big")
    report(
        "snapshot_1m",
        {
            "rows": SNAPSHOT_ROWS,
            "seconds": round(took, 1),
            "rows_per_s": round(events / took),
            "rows_per_cpu_s": round(events / max(sum(resources.cpu_s.values()), 0.1)),
            "verify_s": verdict["seconds"],
            "trace_s": round(traced, 1),
            "bronze_bytes_per_event": round(bronze_bytes(stack, "hw.apart.big") / events, 1),
            **resources.as_dict(),
        },
    )


def test_a_burst_of_two_hundred_thousand_mixed_changes(stack: Stack) -> None:
    engine = create_engine(
        stack.settings.source_dsn.replace("postgresql://", "postgresql+psycopg://")
    )
    load = BenchWorkload(engine, tables=BURST_TABLES, rate=0, rows=20_000)
    load.create()
    names = [table.name for table in load.tables]
    stack.await_tables(*names)
    stack.verify(*names)
    before = sum(bronze_bytes(stack, f"hw.public.{name}") for name in names)
    began = time.monotonic()
    with watched(stack) as resources:
        load.burst(BURST_CHANGES)
        written = time.monotonic() - began
        with psycopg.connect(stack.settings.source_dsn) as source:
            row = source.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
        assert row is not None
        lake = Lakehouse(stack.settings)
        until(
            lake.complete_lsn,
            lambda lsn: lsn >= int(row[0]),
            within_s=DRAIN_S,
            what="silver complete up to the burst's end",
            every_s=1,
        )
    drained = time.monotonic() - began
    verdicts = stack.verify(*names, timeout_s=600)
    assert all(verdict["verdict"] == "equal" for verdict in verdicts)
    after = sum(bronze_bytes(stack, f"hw.public.{name}") for name in names)
    engine.dispose()
    report(
        "burst_200k",
        {
            "changes": BURST_CHANGES,
            "tables": BURST_TABLES,
            "written_s": round(written, 1),
            "drained_s": round(drained, 1),
            "changes_per_s": round(BURST_CHANGES / drained),
            "changes_per_cpu_s": round(BURST_CHANGES / max(sum(resources.cpu_s.values()), 0.1)),
            "bronze_bytes_per_event": round((after - before) / BURST_CHANGES, 1),
            **resources.as_dict(),
        },
    )


def count(stack: Stack, table: str) -> int:
    """The number of rows in silver's `table` by Trino; 0 while the table does not exist."""
    return int(stack.query(f"SELECT count(*) FROM silver.{table}")[0][0])


def bronze_bytes(stack: Stack, topic: str) -> int:
    """The compressed size of all objects of `topic` in bronze."""
    import pyarrow.fs as pa_fs

    files = Lakehouse(stack.settings).bronze_files()
    selector = pa_fs.FileSelector(topic, recursive=True, allow_not_found=True)
    return sum(info.size or 0 for info in files.get_file_info(selector))

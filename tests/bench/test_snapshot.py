"""Snapshots: a table that exists before the stack starts, and one that comes while it runs.

A case is `initial` or `incremental`, with a `narrow` (5 columns) or a `wide` (60) table; HEADWATER_BENCH_CASES chooses,
HEADWATER_BENCH_ROWS sets the rows. A figure is written only after all rows equalled the source's.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from app.lake.lakehouse import Lakehouse
from tests.support.circumstances import proof
from tests.support.measure import Resources, cpu_of, report, watched
from tests.support.silver_end import bronze_bytes
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

ROWS = int(os.environ.get("HEADWATER_BENCH_ROWS", "1000000"))
WITHIN_S = 3_000.0
LOOK_S = 0.25
SEED = 1  # of nothing random: the rows follow from their numbers
NARROW = {
    "v int": "i % 1000",
    "note text": "'note ' || md5(i::text)",
    "price numeric(12,2)": "i / 100.0",
    "at timestamptz": "timestamptz '2026-01-01 00:00Z' + i * interval '1 second'",
}
KINDS = {
    "int": "(i * {n}) % 1000",
    "text": "'text ' || (i * {n}) % 100000",
    "numeric(12,2)": "(i % 100000) / 100.0 + {n}",
    "timestamptz": "timestamptz '2026-01-01 00:00Z' + i * interval '{n} second'",
    "double precision": "(i * {n}) / 7.0",
}
WIDE = {
    f"c{n} {kind}": KINDS[kind].format(n=n) for n, kind in enumerate((list(KINDS) * 12)[:59], 1)
}
WIDTHS = {"narrow": NARROW, "wide": WIDE}
ALL = [f"{way}_{width}" for way in ("initial", "incremental") for width in WIDTHS]
CASES = os.environ.get("HEADWATER_BENCH_CASES", ",".join(ALL)).split(",")
pytestmark = pytest.mark.timeout(7_200)


@pytest.mark.parametrize("width", [name[8:] for name in CASES if name.startswith("initial_")])
def test_an_initial_snapshot(width: str) -> None:
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        make_table(stack, "snap", WIDTHS[width])
        began = time.time()
        stack.up()
        until(
            lambda: rows_of(stack, "snap"),
            lambda rows: rows == ROWS,
            within_s=WITHIN_S,
            what="all rows in silver",
            every_s=LOOK_S,
        )
        seen = time.time()
        running = {name: int(row["pid"]) for name, row in stack.status().items() if row["pid"]}
        # Of each process since its start, which is part of the way to the first rows.
        resources = Resources(cpu_s=cpu_of(running))
        first = first_record_s(stack, "snap")
        figures = {
            "from_command_s": round(seen - began, 1),
            "first_record_s": round(first - began, 1),
        }
        figures |= snapshot_figures(stack, "snap", seen - first, resources)
    report(f"snapshot_initial_{width}", figures)


@pytest.mark.parametrize("width", [name[12:] for name in CASES if name.startswith("incremental_")])
def test_an_incremental_snapshot(stack: Stack, width: str) -> None:
    table = f"late_{width}"
    began = time.monotonic()
    make_table(stack, table, WIDTHS[width])
    made, began = time.monotonic() - began, time.monotonic()
    with watched(stack, every_s=5.0) as resources:
        until(
            lambda: rows_of(stack, table),
            lambda rows: rows == ROWS,
            within_s=WITHIN_S,
            what="all rows in silver",
            every_s=LOOK_S,
        )
        took = time.monotonic() - began
    figures = {"written_s": round(made, 1)} | snapshot_figures(stack, table, took, resources)
    began = time.monotonic()
    stack.run("trace", table, str(ROWS // 3), "--format", "json")
    report(
        f"snapshot_incremental_{width}", figures | {"trace_s": round(time.monotonic() - began, 1)}
    )


def make_table(stack: Stack, table: str, columns: dict[str, str]) -> None:
    """Make a table with all of its rows in one transaction, so that the capture first sees it full."""
    with stack.source() as source, source.transaction():
        source.execute(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, {', '.join(columns)})".encode()
        )
        values = ", ".join(columns.values())
        source.execute(
            f"INSERT INTO {table} SELECT i, {values} FROM generate_series(1, {ROWS}) i".encode()
        )


def rows_of(stack: Stack, table: str) -> int:
    """The rows of a silver table by its log."""
    actions = Lakehouse(stack.settings).silver(table).get_add_actions(flatten=True)
    return sum(actions["num_records"].to_pylist())


def first_record_s(stack: Stack, table: str) -> float:
    """When the connector made the first record of a table, in Unix seconds."""
    settings = stack.settings
    place = TopicPartition(f"{settings.topic_prefix}.public.{table}", 0)
    with closing(KafkaConsumer(**settings.kafka.options, group_id=None)) as consumer:
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        records = until(
            lambda: consumer.poll(timeout_ms=1_000), within_s=30, what="the first record"
        )
    return float(records[place][0].timestamp) / 1_000


def snapshot_figures(
    stack: Stack, table: str, took_s: float, resources: Resources
) -> dict[str, Any]:
    """The figures of a snapshot, after the comparison of all rows."""
    proven = proof(stack, [table], SEED)
    cpu = {
        name: round(ROWS / spent) for name, spent in sorted(resources.cpu_s.items()) if spent > 0.1
    }
    with stack.source() as source:
        rows = source.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert rows == (ROWS,)
    bronze = bronze_bytes(stack, f"{stack.settings.topic_prefix}.public.{table}")
    return {
        "rows": ROWS,
        "seconds": round(took_s, 1),
        "rows_per_s": round(ROWS / took_s),
        "rows_per_cpu_s": round(ROWS / max(sum(resources.cpu_s.values()), 0.1)),
        "rows_per_cpu_s_of": cpu,
        "bronze_bytes_per_event": round(bronze / ROWS, 1),
        **resources.as_dict(),
        **proven,
    }

"""Random transactions of rows and definitions; silver and bronze must be the source's afterwards."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import psycopg

from spark_streaming.naming import silver_table
from tests.support.ddl_workload import Workload
from tests.support.stack import Stack
from tests.support.waiting import until

Source = psycopg.Connection[tuple[Any, ...]]
STEPS_A_SECOND = 10
SETTLED_S = 300.0
# How a reason shows what silver cannot hold.
REFUSED_IN_EVENTS = ("NAN", "NaN", "infinity", "{{a}", "[2:3]=")


def test_silver_and_bronze_equal_the_source_after_random_rows_and_definitions(
    stack: Stack, seed: int
) -> None:
    minutes = float(os.environ.get("HEADWATER_FAULT_MINUTES") or 1)
    with stack.source() as source:
        workload = Workload(source, seed)
        workload.begin()
        try:
            settle(source, workload)
            run(source, workload, minutes)
            settle(source, workload)
            stack.run("verify", expect=None, timeout_s=600)  # waits until silver has all of it
            names = {silver_table("public", name): name for name in workload.tables}
            clear_quarantine(stack, workload, names)
            verdicts = {row["table"]: row["verdict"] for row in stack.verify(*names)}
            assert set(verdicts.values()) == {"equal"}, verdicts
            ended = stack.run("verify", "--bronze", "--format", "json", timeout_s=600)
            rows = json.loads(ended.stdout)
            assert [row for row in rows if row["verdict"] != "complete"] == []
        finally:
            print(f"done, by kind: {dict(workload.done.most_common())}")
            workload.drop_all()


def run(source: Source, workload: Workload, minutes: float) -> None:
    pause = threading.Event()
    limit = time.monotonic() + minutes * 60
    while time.monotonic() < limit:
        # While a table is taken in Debezium reads definitions ahead of the log: see its README.
        workload.step(rows_only=bool(late(source, workload)))
        pause.wait(1 / STEPS_A_SECOND)


def late(source: Source, workload: Workload) -> list[tuple[Any, ...]]:
    """The tables that the capture has not taken in yet, with the rows that they had."""
    return source.execute(
        "SELECT name FROM unnest(%s::text[]) name WHERE NOT EXISTS (SELECT FROM "
        "pg_publication_tables WHERE pubname = 'headwater' AND tablename = name)"
        " UNION ALL SELECT c.relname FROM headwater.signal s JOIN pg_class c "
        "ON s.id = 'taken-' || c.oid WHERE s.type = 'log'",
        [workload.tables],
    ).fetchall()


def settle(source: Source, workload: Workload) -> None:
    """Until the capture has taken in every table."""
    until(
        lambda: late(source, workload),
        lambda found: not found,
        within_s=SETTLED_S,
        what="every table taken in",
        every_s=0.5,
    )


def clear_quarantine(stack: Stack, workload: Workload, names: dict[str, str]) -> None:
    """Each open entry must have its reason in a value of its row; then the row goes."""
    found = stack.query(
        "SELECT table_name, key, rule, reason FROM ops.quarantine WHERE status = 'open'"
    )
    entries = [row for row in found if row[0] in names]
    explained = {row[:2] for row in entries if any(v in row[3] for v in REFUSED_IN_EVENTS)}
    assert [row for row in entries if row[:2] not in explained] == []
    print(f"{len(entries)} entries in quarantine, all explained")
    for table, key in {row[:2] for row in entries}:
        workload.delete(names[table], json.loads(key))

"""Runs a random workload of rows and definitions on a stack, and checks that all of it arrived."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import psycopg

from tests.support.ddl_workload import Workload
from tests.support.miscounted import explain
from tests.support.stack import Stack
from tests.support.waiting import until

Source = psycopg.Connection[tuple[Any, ...]]
STEPS_A_SECOND = 10
SETTLED_S = 300.0
# How a quarantine reason shows a value that silver cannot hold.
REFUSED_IN_EVENTS = ("NAN", "NaN", "infinity", "{{a}", "[2:3]=")

# Events that the connector named ahead of the log, so that nobody knows which value belongs to which column.
UNTOLD = "cannot be told"


def run(minutes: float, *steps: Callable[[], None]) -> None:
    """Take a step of each workload, STEPS_A_SECOND times a second."""
    pause = threading.Event()
    limit = time.monotonic() + minutes * 60
    while time.monotonic() < limit:
        for step in steps:
            step()
        pause.wait(1 / STEPS_A_SECOND)


def settle(source: Source, workload: Workload) -> None:
    """Wait until every table is captured with the rows that it had."""
    until(
        lambda: source.execute(
            "SELECT name FROM unnest(%s::text[]) name WHERE NOT EXISTS (SELECT FROM "
            "pg_publication_tables WHERE pubname = 'headwater' AND tablename = name)"
            " UNION ALL SELECT c.relname FROM headwater.signal s JOIN pg_class c "
            "ON s.id = 'taken-' || c.oid WHERE s.type = 'log'",
            [workload.tables],
        ).fetchall(),
        lambda found: not found,
        within_s=SETTLED_S,
        what="every table taken in",
        every_s=0.5,
    )


def open_entries(stack: Stack) -> list[dict[str, Any]]:
    """The open quarantine entries of all tables."""
    names = ("table_name", "key", "rule", "reason")
    found = stack.query(f"SELECT {', '.join(names)} FROM ops.quarantine WHERE status = 'open'")
    return [dict(zip(names, row, strict=True)) for row in found]


def clear_quarantine(
    stack: Stack, workload: Workload, names: dict[str, str], values: Collection[str]
) -> None:
    """Check that a value of the row explains each open entry; then delete the row.

    Args:
        names: silver's table → the source's.
        values: the values in the form of reasons.
    """
    entries = [entry for entry in open_entries(stack) if entry["table_name"] in names]
    rows = {(entry["table_name"], entry["key"]): list[str]() for entry in entries}
    for entry in entries:
        rows[entry["table_name"], entry["key"]].append(entry["reason"])
    untold = sum(entry["rule"] == "columns-ahead" for entry in entries)
    # Later events of a quarantined row are quarantined with it, and name its column, too.
    unexplained = {
        row: reasons
        for row, reasons in rows.items()
        if not any("column " in r and any(v in r for v in (*values, UNTOLD)) for r in reasons)
    }
    assert unexplained == {}, unexplained
    print(
        f"{len(entries)} entries of {len(rows)} rows in quarantine, all explained; "
        f"{untold} that the connector named ahead of the log"
    )
    for table, key in rows:
        workload.delete(names[table], json.loads(key))


def assert_bronze_is_whole(stack: Stack) -> None:
    """Check that `verify --bronze` finds nothing; otherwise the failure shows the origin of the first wrong counts."""
    ended = stack.run("verify", "--bronze", timeout_s=600, expect=None)
    if ended.returncode != 0:
        said = f"{ended.stdout}\n{ended.stderr}"
        raise AssertionError(f"bronze is not whole\n{said}\n{explain(stack, said)}")

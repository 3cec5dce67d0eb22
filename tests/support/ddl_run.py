"""A random workload of rows and definitions on a stack: run it, and see that all of it arrived."""

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
# How a reason shows what silver cannot hold.
REFUSED_IN_EVENTS = ("NAN", "NaN", "infinity", "{{a}", "[2:3]=")

# What the connector named ahead of the log, and nothing tells whose value is whose.
UNTOLD = "cannot be told"


def run(minutes: float, *steps: Callable[[], None]) -> None:
    """Take a step of each kind, STEPS_A_SECOND times a second."""
    pause = threading.Event()
    limit = time.monotonic() + minutes * 60
    while time.monotonic() < limit:
        for step in steps:
            step()
        pause.wait(1 / STEPS_A_SECOND)


def settle(source: Source, workload: Workload) -> None:
    """Until the capture has taken in every table, with the rows that it had."""
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
    """What waits in quarantine, of all tables."""
    names = ("table_name", "key", "rule", "reason")
    found = stack.query(f"SELECT {', '.join(names)} FROM ops.quarantine WHERE status = 'open'")
    return [dict(zip(names, row, strict=True)) for row in found]


def clear_quarantine(
    stack: Stack, workload: Workload, names: dict[str, str], values: Collection[str]
) -> None:
    """Each open entry must have its reason in a value of its row; then the row goes.

    Args:
        names: silver's table -> the source's.
        values: as reasons show them.
    """
    entries = [entry for entry in open_entries(stack) if entry["table_name"] in names]
    rows = {(entry["table_name"], entry["key"]): list[str]() for entry in entries}
    for entry in entries:
        rows[entry["table_name"], entry["key"]].append(entry["reason"])
    untold = sum(entry["rule"] == "columns-ahead" for entry in entries)
    # Later events of a row that is in quarantine wait there with it: they name its column, too.
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
    """`verify --bronze` must be green; else the failure shows where the first wrong counts come from."""
    ended = stack.run("verify", "--bronze", timeout_s=600, expect=None)
    if ended.returncode != 0:
        said = f"{ended.stdout}\n{ended.stderr}"
        raise AssertionError(f"bronze is not whole\n{said}\n{explain(stack, said)}")

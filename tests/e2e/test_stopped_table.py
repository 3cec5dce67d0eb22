"""Only the table that silver cannot write stops, and it catches up; a damaged table is rebuilt."""

from __future__ import annotations

import itertools
import json
import subprocess
import urllib.request
from contextlib import suppress
from typing import Any

from deltalake import DeltaTable

from app.lake.lakehouse import Lakehouse
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 240.0  # enough for three restarts of the job on a busy machine


def test_table_that_cannot_be_written_stops_alone_and_catches_up_when_it_is_repaired(
    stack: Stack,
) -> None:
    with stack.source() as source:
        for table in ("ill", "ill_bag", "well"):
            key = "" if table == "ill_bag" else "PRIMARY KEY"
            source.execute(f"CREATE TABLE {table} (id int {key}, n int)")
            source.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
            source.execute(f"INSERT INTO {table} VALUES (1, 1)")
    stack.await_tables("ill", "ill_bag", "well", within_s=SOON_S)
    for table in ("ill", "ill_bag"):
        _silver(stack, table).alter.add_constraint({"small": "n < 100"})
    _change(stack, 2)
    for table in ("ill", "ill_bag"):
        stopped = _await(stack, table, "stopped")
        assert "failed validation" in stopped["reason"]
        assert stopped["resumes_from"] and stopped["stopped_at"] and stopped["tries"]
    assert _metrics(stack)['headwater_silver_stopped{table="ill"}'] == "1.0"
    before = _await(stack, "well", "running")
    _change(stack, 3)
    stack.kill("silver", ready=False, within_s=SOON_S)
    _change(stack, 4)
    after = until(
        lambda: _await(stack, "well", "running"),
        lambda row: row["complete_lsn"] > before["complete_lsn"],
        within_s=SOON_S,
        what="`well` complete to a later LSN",
    )
    stack.await_answer(
        "SELECT id, n FROM well ORDER BY 1", [(1, 1), (2, 500), (3, 500), (4, 500)], within_s=SOON_S
    )
    still = _await(stack, "ill", "stopped")
    assert still["complete_lsn"] < after["complete_lsn"]
    assert stack.query("SELECT n FROM ill") == stack.query("SELECT n FROM ill_bag") == [(1,)]
    for table in ("ill", "ill_bag"):
        _silver(stack, table).alter.drop_constraint("small")
        resumed = stack.run("resume", table, expect=None)
        # It may have continued by itself, at the table's next retry.
        assert resumed.returncode == 0 or "its state is running" in resumed.stderr, resumed.stderr
        assert _await(stack, table, "running")["reason"] is None
    stack.verify("ill", "ill_bag", "well")
    refused = stack.run("resume", "well", expect=1).stderr
    assert "`well` is not stopped: its state is running" in refused


def test_damaged_tables_are_made_again_from_bronze_while_the_source_goes_on(stack: Stack) -> None:
    tables = ("torn", "torn_bag")
    with stack.source() as source:
        for table in tables:
            key = "" if table == "torn_bag" else "PRIMARY KEY"
            source.execute(f"CREATE TABLE {table} (id int {key}, n int)")
            source.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
            source.execute(f"INSERT INTO {table} SELECT i, i FROM generate_series(1, 500) i")
        source.execute("UPDATE torn SET id = id + 1000 WHERE id <= 20")
        source.execute("DELETE FROM torn_bag WHERE id % 7 = 0")
    stack.await_tables(*tables, within_s=SOON_S)
    stack.verify(*tables)
    _silver(stack, "torn").update(updates={"n": "7"}, predicate="id % 2 = 0")
    _silver(stack, "torn_bag").delete("id > 100")
    stack.run("verify", *tables, expect=1)
    for table in tables:
        process = stack.start("rebuild", table, "--format", "json")
        with stack.source() as source:
            for number in itertools.count(1):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                    break
                source.execute(f"INSERT INTO {table} VALUES ({10_000 + number}, {number})")
                source.execute(f"UPDATE {table} SET n = n + 1 WHERE id % 50 = {number % 50}")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        [told] = json.loads(out)
        assert told["table"] == table and told["events"] >= 500
        assert _await(stack, table, "running")["reason"] is None
    stack.verify(*tables, "well")
    unknown = stack.run("rebuild", "no_such_table", expect=1).stderr
    assert "there is no silver table `no_such_table`" in unknown and "hint:" in unknown


def _change(stack: Stack, number: int) -> None:
    """Write one transaction over the three tables, with values that the constraint forbids."""
    with stack.source() as source, source.transaction():
        for table in ("ill", "ill_bag", "well"):
            source.execute(f"INSERT INTO {table} VALUES ({number}, 500)")


def _silver(stack: Stack, table: str) -> DeltaTable:
    return Lakehouse(stack.settings).silver(table)


def _await(stack: Stack, table: str, state: str) -> dict[str, Any]:
    """Wait until the table is in this state. Returns: its row of ops.freshness."""
    names = ["state", "reason", "stopped_at", "tries", "resumes_from", "complete_lsn"]
    [row] = until(
        lambda: stack.query(
            f"SELECT {', '.join(names)} FROM ops.freshness WHERE table_name = '{table}'"
        ),
        lambda rows: bool(rows) and rows[0][0] == state,
        within_s=SOON_S,
        what=f"`{table}` {state}",
        every_s=0.5,
    )
    return dict(zip(names, row, strict=True))


def _metrics(stack: Stack) -> dict[str, str]:
    url = stack.urls()["silver_metrics"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

"""Source tables change under a running stack: each kind of change under each policy, at once."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_streaming.contract.evolution import EVOLVE, FAIL, NEW_VERSION, QUARANTINE
from tests.support.evolution_cases import CELLS, COLUMNS, cells
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 300.0
VERIFY_S = 420.0
DROPPED, TRUNCATED, ADDED = "table_dropped", "table_truncated", "table_added"
# Silver's columns and rows stay as they are.
ONLY_NOTED = ("enum_value", "replica_identity", DROPPED)

# In addition to the pairs of `evolution_cases`: several changes in quick succession, which silver
# sees together.
JUMP = (
    "ALTER TABLE ev_jump RENAME n TO m",
    "INSERT INTO ev_jump VALUES (4, 4, 4, 'd', 0.1)",
    "ALTER TABLE ev_jump ALTER m TYPE double precision",
    "INSERT INTO ev_jump VALUES (5, 5, 5, 'e', 0.1)",
    "ALTER TABLE ev_jump DROP v",
    "ALTER TABLE ev_jump ADD v text",
    "INSERT INTO ev_jump VALUES (6, 6, 'f', 0.1, 'another column of that name')",
    "ALTER TABLE ev_jump RENAME m TO n",
    "UPDATE ev_jump SET t = t || '.'",
)
# Table → its contract file, the change, and a row with the new columns.
OTHERS = {
    "ev_jump": ("", "ALTER TABLE ev_jump ADD n real", "(3, 3, 3, 'c', 0.1)"),
    # Silver can no longer keep it, whatever its policy.
    "f_key": ("", "ALTER TABLE f_key DROP CONSTRAINT f_key_pkey", "(3, 3, 3, 'c')"),
    # Its older rows have values that no cast and no event gives.
    "n_cast": (
        '[evolution]\nincompatible_change = "new_version"\n',
        "ALTER TABLE n_cast ALTER t TYPE int USING length(t)",
        "(3, 3, 3, 3)",
    ),
    "n_filled": ("", "ALTER TABLE n_filled ADD u uuid DEFAULT gen_random_uuid()", "(3, 3, 3, 'c')"),
}
QUIET, GONE = "ev_quiet", "ev_gone"
KEPT = [cell for cell in CELLS if cell.kind != DROPPED]
FOLLOWED = [*[cell.table for cell in cells(EVOLVE, NEW_VERSION, but=(DROPPED,))], "ev_jump"]


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    """The stack's own folder of contract files, for this test's tables."""
    types = [f"{cell.table}_mood" for cell in CELLS if cell.kind == "enum_value"]
    names = [*(cell.table for cell in CELLS), *OTHERS, QUIET, GONE]
    with stack.contract_files(names, types) as folder:
        yield folder


def test_each_kind_of_change_is_followed_as_each_policy_says(stack: Stack, folder: Path) -> None:
    _make_tables(stack, folder)
    before = _columns(stack)
    planned = _plan(stack, "--ddl", "; ".join(_ddl()))
    assert _columns(stack) == before, "a plan changes nothing"
    _check_plan(planned)
    _change_tables(stack)
    _await_held_back(stack)
    stack.verify(*FOLLOWED, timeout_s=VERIFY_S)
    held = {row["table"] for row in _plan(stack)}
    assert {
        f"public.{cell.table}" for cell in cells(QUARANTINE, FAIL, but=(DROPPED, TRUNCATED))
    } <= held
    assert not {f"public.{table}" for table in FOLLOWED} & held
    _check_beside(stack)
    _let_in(stack, folder)
    stack.verify("f_key", "ev_jump", *(cell.table for cell in KEPT), timeout_s=VERIFY_S)
    _check_records(stack)


@pytest.mark.slow  # over a minute; spark/test_evolution.py has it
def test_a_new_process_follows_quiet_tables_without_an_event(stack: Stack, folder: Path) -> None:
    (folder / f"public.{GONE}.toml").write_text('[evolution]\ntable_dropped = "fail"\n')
    with stack.source() as source:
        for table in (QUIET, GONE):
            source.execute(f"CREATE TABLE {table} ({COLUMNS})".encode())
            source.execute(f"INSERT INTO {table} VALUES (1, 1, 1, 'a')".encode())
        stack.await_tables(QUIET, GONE, within_s=SOON_S)
        killed = stack.status()["silver"]["pid"]
        os.kill(killed, signal.SIGKILL)
        until(
            lambda: stack.status()["silver"],
            lambda row: row["state"] == "ready" and row["pid"] != killed,
            within_s=SOON_S,
            what="silver after SIGKILL",
        )
        source.execute(f"ALTER TABLE {QUIET} ADD n int DEFAULT 7".encode())
        source.execute(f"DROP TABLE {GONE}".encode())
    stack.await_answer(f"SELECT n FROM silver.{QUIET}", [(7,)], within_s=SOON_S)
    _await_states(stack, {GONE: "stopped"})


def _make_tables(stack: Stack, folder: Path) -> None:
    for cell in CELLS:
        (folder / f"public.{cell.table}.toml").write_text(cell.contract_file())
    there = [cell.table for cell in CELLS if cell.is_there_before] + list(OTHERS)
    with stack.source() as source:
        for cell in CELLS:
            for statement in cell.making():
                source.execute(statement.encode())
        for table, (file, _, _) in OTHERS.items():
            if file:
                (folder / f"public.{table}.toml").write_text(file)
            source.execute(f"CREATE TABLE {table} ({COLUMNS})".encode())
            source.execute(f"INSERT INTO {table} VALUES (1, 1, 1, 'a'), (2, 2, 2, 'a')".encode())
    stack.await_tables(*there, within_s=SOON_S)
    stack.verify(*there, timeout_s=VERIFY_S)


def _ddl() -> list[str]:
    return [
        *(statement for cell in CELLS for statement in cell.ddl()),
        *(ddl for _, ddl, _ in OTHERS.values()),
    ]


def _columns(stack: Stack) -> list[tuple[Any, ...]]:
    """Columns, types and number of rows of the source's tables and of silver's."""
    there = [*(cell.table for cell in CELLS if cell.is_there_before), *OTHERS]
    tables = ", ".join(f"'{table}'" for table in there)
    asked = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        f"WHERE table_schema = '%s' AND table_name IN ({tables}) ORDER BY 1, 2"
    )
    with stack.source() as source:
        found = source.execute((asked % "public").encode()).fetchall()
        counts = [
            source.execute(f"SELECT '{table}', count(*) FROM {table}".encode()).fetchall()[0]
            for table in there
        ]
    return [*found, *counts, *stack.query(asked % "silver")]


def _plan(stack: Stack, *words: str) -> list[dict[str, Any]]:
    return list(stack.answer("contract", "plan", *words))


def _check_plan(planned: list[dict[str, Any]]) -> None:
    told = {(row["table"].removeprefix("public."), row["kind"]): row for row in planned}
    missing = [cell for cell in CELLS if (cell.table, cell.kind) not in told]
    assert not missing
    wanted = {
        QUARANTINE: "in quarantine",
        FAIL: "the table stops",
        NEW_VERSION: "__v1",
        EVOLVE: "",
    }
    for cell in CELLS:
        row = told[cell.table, cell.kind]
        assert row["policy"] == cell.policy
        assert wanted[cell.policy] in row["silver"], row
        assert row["bronze"] and row["trino"] and row["dashboards"], row
    assert "REPLICA IDENTITY FULL" in told["f_key", "key_change"]["silver"]
    assert "gen_random_uuid" in told["n_filled", "add_column"]["warning"]


def _change_tables(stack: Stack) -> None:
    with stack.source() as source:
        for cell in CELLS:
            for statement in [*cell.ddl(), *cell.rows_afterwards()]:
                source.execute(statement.encode())
        for table, (_, ddl, row) in OTHERS.items():
            source.execute(ddl.encode())
            source.execute(f"INSERT INTO {table} VALUES {row}".encode())
        for statement in JUMP:
            source.execute(statement.encode())


def _await_held_back(stack: Stack) -> None:
    """Tables whose change must not be followed are stopped or have quarantined events, by kind."""
    failing = {(cell.table, cell.kind) for cell in cells(FAIL)}
    until(
        lambda: {
            (table, kind)
            for table, reason in stack.query(
                "SELECT table_name, reason FROM ops.freshness WHERE state = 'stopped'"
            )
            for _, kind in failing
            if kind in reason
        },
        lambda stopped: failing <= stopped,
        within_s=SOON_S,
        what=f"stopped by their policies: {sorted(failing)}",
        every_s=1,
    )
    _await_states(stack, {"f_key": "stopped"})
    waiting = {(cell.table, cell.kind) for cell in cells(QUARANTINE)}
    until(
        lambda: set(stack.query("SELECT DISTINCT table_name, rule FROM ops.quarantine")),
        lambda found: waiting <= found,
        within_s=SOON_S,
        what=f"in quarantine: {sorted(waiting)}",
        every_s=1,
    )


def _await_states(stack: Stack, wanted: dict[str, str]) -> None:
    until(
        lambda: dict(stack.query("SELECT table_name, state FROM ops.freshness")),
        lambda found: wanted.items() <= found.items(),
        within_s=SOON_S,
        what=f"the states {wanted}",
        every_s=1,
    )


def _let_in(stack: Stack, folder: Path) -> None:
    """Allow the refused changes: stopped tables go on by themselves, entries are replayed."""
    for cell in cells(QUARANTINE, FAIL):
        (folder / f"public.{cell.table}.toml").write_text(cell.contract_file(EVOLVE))
    with stack.source() as source:
        source.execute("ALTER TABLE f_key REPLICA IDENTITY FULL")
    stack.run("resume", "f_key", expect=None)  # it may already have continued by itself
    _await_states(stack, dict.fromkeys([cell.table for cell in cells(FAIL)], "running"))
    _await_states(stack, {"f_key": "running"})
    for cell in cells(QUARANTINE):
        until(
            lambda table=cell.table: json.loads(  # type: ignore[misc]
                stack.run("quarantine", "replay", table, "--format", "json", expect=None).stdout
            ),
            lambda rows: bool(rows) and {row["outcome"] for row in rows} == {"replayed"},
            within_s=SOON_S,
            what=f"a replay of {cell.table}",
        )


def _check_beside(stack: Stack) -> None:
    """Earlier versions of tables are kept beside; values that no cast or event gives are NULL."""
    for table in [*(cell.table for cell in cells(NEW_VERSION)), "n_cast"]:
        old = until(
            lambda table=table: stack.query(  # type: ignore[misc]
                f"SELECT id, code, v, t FROM silver.{table}__v1 ORDER BY 1"
            ),
            within_s=SOON_S,
            what=f"the old generation of {table} in Trino",
            every_s=0.5,
        )
        assert old == [(1, 1, 1, "a"), (2, 2, 2, "a")]
    now = stack.query("SELECT id, t FROM silver.n_cast ORDER BY 1")
    assert now == [(1, None), (2, None), (3, 3)]
    filled = stack.query("SELECT id, u IS NULL FROM silver.n_filled ORDER BY 1")
    assert filled == [(1, True), (2, True), (3, False)]
    kept = stack.query("SELECT id, v FROM silver.ev_drop_column_evolve ORDER BY 1")
    assert kept == [(1, None), (2, 2), (3, None)], "NULL in rows that changed since"
    for cell in cells(EVOLVE, FAIL):
        if cell.kind == DROPPED:
            assert len(stack.query(f"SELECT * FROM silver.{cell.table}")) == 2


def _check_records(stack: Stack) -> None:
    wanted = {(cell.table, cell.kind, _outcome(cell.kind)) for cell in cells(EVOLVE, NEW_VERSION)}
    wanted |= {(cell.table, cell.kind, "quarantined") for cell in cells(QUARANTINE)}
    wanted |= {(cell.table, cell.kind, "stopped") for cell in cells(FAIL)}
    held = cells(QUARANTINE, FAIL, but=(DROPPED, TRUNCATED))
    wanted |= {(cell.table, cell.kind, _outcome(cell.kind)) for cell in held}
    wanted |= {("ev_jump", "widen_type", "applied"), ("ev_jump", "drop_column", "applied")}
    until(
        lambda: (
            wanted
            - {
                tuple(row)
                for row in stack.query("SELECT table_name, kind, outcome FROM ops.schema_changes")
            }
        ),
        lambda missing: not missing,
        within_s=SOON_S,
        what="every change in ops.schema_changes (those that are missing)",
        every_s=1,
    )
    url = stack.urls()["silver_metrics"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode()
    counter = "headwater_silver_schema_changes_total"
    stopped = 'kind="drop_column",outcome="stopped",table="ev_drop_column_fail"'
    assert f"{counter}{{{stopped}}} 1.0" in lines


def _outcome(kind: str) -> str:
    """The record of a kind of change that silver has followed."""
    return "noted" if kind in ONLY_NOTED else "applied"

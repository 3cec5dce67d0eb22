"""Source tables change under a running stack: each kind of change, and each policy, once."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 240.0
COLUMNS = "id int PRIMARY KEY, code int NOT NULL, v int, t varchar(5)"

# Table -> its policy, what is done to it, and a row of the new shape ("" where rows come along).
EVOLVING = {
    "ev_add": ({}, "ALTER TABLE ev_add ADD n int DEFAULT 7", "(3, 3, 3, 'c', 8)"),
    "ev_drop": ({}, "ALTER TABLE ev_drop DROP v", "(3, 3, 'c')"),
    "ev_rename": ({}, "ALTER TABLE ev_rename RENAME v TO w", "(3, 3, 3, 'c')"),
    "ev_widen": (
        {},
        "ALTER TABLE ev_widen ALTER v TYPE bigint, ALTER t TYPE varchar(40), "
        "ALTER f TYPE double precision, ALTER n TYPE numeric(12,4)",
        f"(3, 3, {2**40}, 'wider than before', 0.1, 12345678.1234)",
    ),
    "ev_cast": (
        {"incompatible_change": "evolve"},
        "ALTER TABLE ev_cast ALTER v TYPE text",
        "(3, 3, 'three', 'c')",
    ),
    "ev_key": (
        {},
        "ALTER TABLE ev_key DROP CONSTRAINT ev_key_pkey, ADD PRIMARY KEY (code)",
        "(3, 3, 3, 'c')",
    ),
    "ev_again": (
        {},
        "DROP TABLE ev_again; CREATE TABLE ev_again (id int PRIMARY KEY, w text)",
        "(7, 'new')",
    ),
    "ev_truncate": ({}, "TRUNCATE ev_truncate", "(3, 3, 3, 'c')"),
    "ev_identity": ({}, "ALTER TABLE ev_identity REPLICA IDENTITY FULL", "(3, 3, 3, 'c')"),
    "ev_enum": ({}, "ALTER TYPE ev_mood ADD VALUE 'calm'", "(3, 3, 3, 'c', 'calm')"),
    "ev_jump": ({}, "ALTER TABLE ev_jump ADD n real", "(3, 3, 3, 'c', 0.1)"),
}
# One after the other, too quick to be looked at apart.
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
QUARANTINED = {
    "q_add": ({"add_column": "quarantine"}, "ALTER TABLE q_add ADD n int", "(3, 3, 3, 'c', 8)"),
    "q_truncate": ({"table_truncated": "quarantine"}, "TRUNCATE q_truncate", ""),
}
STOPPED = {
    "f_drop": ({"drop_column": "fail"}, "ALTER TABLE f_drop DROP v", "(3, 3, 'c')"),
    "f_cast": ({}, "ALTER TABLE f_cast ALTER v TYPE text", "(3, 3, 'three', 'c')"),
    "f_truncate": ({"table_truncated": "fail"}, "TRUNCATE f_truncate", "(3, 3, 3, 'c')"),
    "f_key": ({}, "ALTER TABLE f_key DROP CONSTRAINT f_key_pkey", "(3, 3, 3, 'c')"),
}
BESIDE = {
    "n_cast": (
        {"incompatible_change": "new_version"},
        "ALTER TABLE n_cast ALTER t TYPE int USING length(t)",
        "(3, 3, 3, 3)",
    ),
    # Its older rows have values that no event tells.
    "n_filled": ({}, "ALTER TABLE n_filled ADD u uuid DEFAULT gen_random_uuid()", "(3, 3, 3, 'c')"),
}
CHANGES = {**EVOLVING, **QUARANTINED, **STOPPED, **BESIDE}
LATER = "q_new"


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    """The stack's own folder of contract files; emptied afterwards, the tables dropped."""
    folder = stack.settings.contracts_dir
    folder.mkdir(exist_ok=True)
    yield folder
    for path in folder.glob("*.toml"):
        path.unlink()
    with stack.source() as source:
        source.execute(f"DROP TABLE IF EXISTS {', '.join([*CHANGES, LATER, 'ev_gone', 'f_gone'])}")
        source.execute("DROP TYPE IF EXISTS ev_mood")


def test_each_kind_of_change_is_followed_as_its_policy_says(stack: Stack, folder: Path) -> None:
    _make_tables(stack, folder)
    before = _columns(stack)
    planned = _plan(stack, "--ddl", "; ".join(ddl for _, ddl, _ in CHANGES.values()))
    assert _columns(stack) == before, "a plan changes nothing"
    _check_plan(planned)
    with stack.source() as source:
        for table, (_, ddl, row) in CHANGES.items():
            for statement in ddl.split("; "):
                source.execute(statement.encode())
            if row:
                source.execute(f"INSERT INTO {table} VALUES {row}".encode())
        for statement in JUMP:
            source.execute(statement.encode())
        source.execute("DROP TABLE ev_gone, f_gone")
        source.execute(f"CREATE TABLE {LATER} ({COLUMNS})")
        source.execute(f"INSERT INTO {LATER} VALUES (1, 1, 1, 'a')")
    for table in [*STOPPED, "f_gone"]:
        _await_state(stack, table, "stopped")
    for table in [*QUARANTINED, LATER]:
        _await_quarantined(stack, table)
    stack.verify(*EVOLVING)
    held = _plan(stack)
    waiting = {"public.q_add", "public.f_drop", "public.f_cast", "public.f_key"}
    assert waiting <= {row["table"] for row in held}
    assert not {f"public.{table}" for table in EVOLVING} & {row["table"] for row in held}
    _let_in(stack, folder)
    stack.verify(*EVOLVING, *QUARANTINED, *STOPPED, LATER)
    _check_beside(stack)
    _check_records(stack)


def _make_tables(stack: Stack, folder: Path) -> None:
    for table, (policies, _, _) in CHANGES.items():
        _write_policies(folder, table, policies)
    _write_policies(folder, LATER, {"table_added": "quarantine"})
    _write_policies(folder, "f_gone", {"table_dropped": "fail"})
    with stack.source() as source:
        source.execute("CREATE TYPE ev_mood AS ENUM ('sad', 'happy')")
        for table in [*CHANGES, "ev_gone", "f_gone"]:
            more = {"ev_widen": ", f real, n numeric(6,2)", "ev_enum": ", m ev_mood"}.get(table, "")
            values = {"ev_widen": ", 0.1, 1.5", "ev_enum": ", 'sad'"}.get(table, "")
            source.execute(f"CREATE TABLE {table} ({COLUMNS}{more})".encode())
            for number in (1, 2):
                row = f"({number}, {number}, {number}, 'a'{values})"
                source.execute(f"INSERT INTO {table} VALUES {row}".encode())
    stack.await_tables(*CHANGES, "ev_gone", "f_gone", within_s=SOON_S)
    stack.verify(*CHANGES)


def _write_policies(folder: Path, table: str, policies: dict[str, str]) -> None:
    lines = [f'{kind} = "{policy}"' for kind, policy in policies.items()]
    (folder / f"public.{table}.toml").write_text("\n".join(["[evolution]", *lines, ""]))


def _columns(stack: Stack) -> list[tuple[Any, ...]]:
    """Columns and types of the source's tables and of silver's, and how many rows they have."""
    tables = ", ".join(f"'{table}'" for table in CHANGES)
    asked = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        f"WHERE table_schema = '%s' AND table_name IN ({tables}) ORDER BY 1, 2"
    )
    with stack.source() as source:
        found = source.execute((asked % "public").encode()).fetchall()
        counts = [
            source.execute(f"SELECT '{table}', count(*) FROM {table}".encode()).fetchall()[0]
            for table in CHANGES
        ]
    return [*found, *counts, *stack.query(asked % "silver")]


def _plan(stack: Stack, *words: str) -> list[dict[str, Any]]:
    ended = stack.run("contract", "plan", *words, "--format", "json")
    return list(json.loads(ended.stdout))


def _check_plan(planned: list[dict[str, Any]]) -> None:
    told = {(row["table"].removeprefix("public."), row["kind"]): row for row in planned}
    kinds = {
        ("ev_add", "add_column"),
        ("ev_drop", "drop_column"),
        ("ev_rename", "rename_column"),
        ("ev_widen", "widen_type"),
        ("ev_cast", "incompatible_change"),
        ("ev_key", "key_change"),
        ("ev_again", "table_recreated"),
        ("ev_truncate", "table_truncated"),
        ("ev_identity", "replica_identity"),
        ("ev_enum", "enum_value"),
    }
    assert kinds <= told.keys()
    assert "wait in quarantine" in told["q_add", "add_column"]["silver"]
    assert "the table stops" in told["f_cast", "incompatible_change"]["silver"]
    assert "REPLICA IDENTITY FULL" in told["f_key", "key_change"]["silver"]
    assert "n_cast__v1" in told["n_cast", "incompatible_change"]["silver"]
    assert "gen_random_uuid" in told["n_filled", "add_column"]["warning"]


def _await_state(stack: Stack, table: str, state: str) -> None:
    until(
        lambda: stack.query(f"SELECT state FROM ops.freshness WHERE table_name = '{table}'"),
        lambda rows: rows == [(state,)],
        within_s=SOON_S,
        what=f"`{table}` {state}",
        every_s=0.5,
    )


def _await_quarantined(stack: Stack, table: str) -> None:
    until(
        lambda: stack.query(f"SELECT rule FROM ops.quarantine WHERE table_name = '{table}'"),
        within_s=SOON_S,
        what=f"entries of {table} in quarantine",
        every_s=0.5,
    )


def _let_in(stack: Stack, folder: Path) -> None:
    """Let what was held back be followed: stopped tables go on, entries are replayed."""
    for table in STOPPED:
        _write_policies(folder, table, {"incompatible_change": "evolve"})
    with stack.source() as source:
        source.execute("ALTER TABLE f_key REPLICA IDENTITY FULL")
    for table in [*QUARANTINED, LATER]:
        _write_policies(folder, table, {})
    for table in STOPPED:
        stack.run("resume", table, expect=None)  # it may have gone on by itself
        _await_state(stack, table, "running")
    for table in [*QUARANTINED, LATER]:
        until(
            lambda table=table: json.loads(  # type: ignore[misc]
                stack.run("quarantine", "replay", table, "--format", "json", expect=None).stdout
            ),
            lambda rows: {row["outcome"] for row in rows} == {"replayed"},
            within_s=SOON_S,
            what=f"a replay of {table}",
        )


def _check_beside(stack: Stack) -> None:
    """The old generation stands beside; values that no cast gives, or no event told, are NULL."""
    old = until(
        lambda: stack.query("SELECT id, t FROM silver.n_cast__v1 ORDER BY 1"),
        within_s=SOON_S,
        what="the old generation in Trino",
    )
    assert old == [(1, "a"), (2, "a")]
    now = stack.query("SELECT id, t FROM silver.n_cast ORDER BY 1")
    assert now == [(1, None), (2, None), (3, 3)]
    filled = stack.query("SELECT id, u IS NULL FROM silver.n_filled ORDER BY 1")
    assert filled == [(1, True), (2, True), (3, False)]
    kept = stack.query("SELECT id, v FROM silver.ev_drop ORDER BY 1")
    assert kept == [(1, 1), (2, 2), (3, None)]
    assert len(stack.query("SELECT * FROM silver.ev_gone")) == 2


def _check_records(stack: Stack) -> None:
    found = until(
        lambda: stack.query("SELECT table_name, kind, outcome, policy FROM ops.schema_changes"),
        lambda rows: ("ev_gone", "table_dropped", "noted", "evolve") in [tuple(r) for r in rows],
        within_s=SOON_S,
        what="the dropped table in ops.schema_changes",
        every_s=0.5,
    )
    recorded = {tuple(row[:3]) for row in found}
    assert {
        ("ev_add", "add_column", "applied"),
        ("ev_rename", "rename_column", "applied"),
        ("ev_jump", "widen_type", "applied"),
        ("ev_jump", "drop_column", "applied"),
        ("ev_truncate", "table_truncated", "applied"),
        ("ev_again", "table_recreated", "applied"),
        ("ev_enum", "enum_value", "noted"),
        ("f_gone", "table_dropped", "stopped"),
        ("q_add", "add_column", "quarantined"),
        ("q_add", "add_column", "applied"),
        ("q_new", "table_added", "quarantined"),
        ("f_drop", "drop_column", "stopped"),
        ("f_drop", "drop_column", "applied"),
        ("f_cast", "incompatible_change", "stopped"),
        ("n_cast", "incompatible_change", "applied"),
    } <= recorded
    url = json.loads(stack.run("urls", "--format", "json").stdout)["silver_metrics"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode()
    counter = "headwater_silver_schema_changes_total"
    assert f'{counter}{{kind="drop_column",outcome="stopped",table="f_drop"}} 1.0' in lines

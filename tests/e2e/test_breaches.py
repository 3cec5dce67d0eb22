"""Rows break each kind of contract rule once with each action, on the whole chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.breach_cases import ACTIONS, BREACHES, COLUMNS, GOOD
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 300.0
VERIFY_S = 420.0
WARN, QUARANTINE, FAIL = "warn", "quarantine", "fail"
TREATED = "br_treated"
DISCARDED = "br_min_quarantine"


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    """The stack's own folder of contract files, for these tests' tables."""
    with stack.contract_files([TREATED, *tables(*ACTIONS)]) as folder:
        yield folder


def tables(*actions: str) -> list[str]:
    return [breach.table for breach in BREACHES if breach.action in actions]


def test_each_kind_of_breach_is_met_as_its_action_says(stack: Stack, folder: Path) -> None:
    assert set(ACTIONS) == {WARN, QUARANTINE, FAIL}
    with stack.source() as source:
        for breach in BREACHES:
            (folder / f"public.{breach.table}.toml").write_text(breach.contract_file())
            source.execute(f"CREATE TABLE {breach.table} ({COLUMNS})".encode())
            source.execute(f"INSERT INTO {breach.table} VALUES {GOOD}".encode())
        stack.await_tables(*tables(*ACTIONS), within_s=SOON_S)
        for breach in BREACHES:
            source.execute(f"INSERT INTO {breach.table} VALUES {breach.rule.broken_by}".encode())
    rules = {breach.table: breach.rule.name for breach in BREACHES}
    _await_pairs(
        stack,
        "SELECT table_name, rule FROM ops.quarantine",
        {(table, rules[table]) for table in tables(QUARANTINE)},
    )
    _await_pairs(
        stack,
        "SELECT DISTINCT table_name, rule FROM ops.expectations WHERE rows_broken > 0",
        {(table, rules[table]) for table in tables(WARN, QUARANTINE)},
    )
    stopped = _await_stopped(stack, tables(FAIL))
    assert all(rules[table] in stopped[table] for table in tables(FAIL)), stopped
    stack.verify(*tables(WARN), timeout_s=VERIFY_S)
    for table in tables(QUARANTINE, FAIL):
        assert stack.query(f"SELECT id FROM silver.{table}") == [(1,)], "the broken row waits"
    _repair(stack, folder)
    stack.verify(*(t for t in tables(*ACTIONS) if t != DISCARDED), timeout_s=VERIFY_S)


def _await_pairs(stack: Stack, asked: str, wanted: set[tuple[str, str]]) -> None:
    until(
        lambda: wanted - {(table, rule) for table, rule in stack.query(asked)},
        lambda missing: not missing,
        within_s=SOON_S,
        what=f"{asked} (those that are missing)",
        every_s=1,
    )


def _await_stopped(stack: Stack, wanted: list[str]) -> dict[str, str]:
    """Table → the reason why it is stopped."""
    return until(
        lambda: dict(
            stack.query("SELECT table_name, reason FROM ops.freshness WHERE state = 'stopped'")
        ),
        lambda found: set(wanted) <= found.keys(),
        within_s=SOON_S,
        what=f"stopped: {wanted}",
        every_s=1,
    )


def _repair(stack: Stack, folder: Path) -> None:
    """Discard one entry, remove the contracts, replay the others; stopped tables go on."""
    [discarded] = stack.answer("quarantine", "discard", DISCARDED, expect=None)
    assert discarded["outcome"] == "discarded"
    for table in tables(*ACTIONS):
        (folder / f"public.{table}.toml").unlink()
    for table in tables(QUARANTINE):
        if table == DISCARDED:
            continue
        until(
            lambda table=table: stack.answer("quarantine", "replay", table, expect=None),  # type: ignore[misc]
            lambda rows: [row["outcome"] for row in rows] == ["replayed"],
            within_s=SOON_S,
            what=f"a replay of {table}",
        )
    assert stack.query(f"SELECT id FROM silver.{DISCARDED}") == [(1,)]
    until(
        lambda: set(stack.query("SELECT table_name FROM ops.freshness WHERE state <> 'running'")),
        lambda found: not found & {(table,) for table in tables(FAIL)},
        within_s=SOON_S,
        what="tables that go on without the rule (those that do not)",
        every_s=1,
    )


def test_each_mask_and_an_empty_text_are_treated_before_silver(stack: Stack, folder: Path) -> None:
    (folder / f"public.{TREATED}.toml").write_text(
        "[columns.hashed]\nmask = 'hash'\n[columns.part]\nmask = 'partial'\n"
        "[columns.gone]\nmask = 'redact'\n[columns.number]\nmask = 'redact'\n"
        "[columns.blank]\nempty = 'null'\nnot_empty = true\n"
    )
    with stack.source() as source:
        source.execute(
            f"CREATE TABLE {TREATED} (id int PRIMARY KEY, hashed text, part text, gone text, "
            "number int, blank text)".encode()
        )
        for number in (1, 2):
            row = f"({number}, 'secret', 'ada@example.com', 'x', 7, '')"
            source.execute(f"INSERT INTO {TREATED} VALUES {row}".encode())
    stack.await_tables(TREATED, within_s=SOON_S)
    stack.verify(TREATED)
    found = stack.query(
        f"SELECT hashed, part, gone, number, blank FROM silver.{TREATED} ORDER BY id"
    )
    [first, second] = found
    assert first == second, "equal values stay equal"
    assert len(first[0]) == 64 and set(first[0]) <= set("0123456789abcdef")
    assert first[1:] == ("a***@example.com", "***", None, None)

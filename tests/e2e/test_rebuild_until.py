"""Tables in their state at a past moment are built beside the current ones, verified, shown and dropped."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from app.lake.lakehouse import Lakehouse
from spark_streaming.contract.lsn import parse_lsn
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 240.0
TABLES = ("past", "past_bag")
Rows = dict[str, list[tuple[Any, ...]]]


def test_tables_are_built_as_they_were_and_proved_by_the_living_ones_versions(
    stack: Stack, request: pytest.FixtureRequest
) -> None:
    contract = stack.settings.contracts_folders[0] / "public.past.toml"
    contract.parent.mkdir(parents=True, exist_ok=True)
    contract.write_text('history = "each"\n')
    request.addfinalizer(contract.unlink)
    with stack.source() as source, stack.source() as late:
        _make(source)
        stack.await_tables(*TABLES, within_s=SOON_S)
        # Written before the moment and committed after it, so none of its rows belongs to the moment.
        late.autocommit = False
        late.execute("UPDATE past SET n = -1 WHERE id = 30")
        late.execute("INSERT INTO past_bag VALUES (3000, -1)")
        with source.transaction():
            source.execute("UPDATE past SET n = n + 100 WHERE id <= 5")
            source.execute("UPDATE past SET id = id + 1000 WHERE id IN (7, 8)")
            source.execute("DELETE FROM past WHERE id = 9")
            source.execute("DELETE FROM past_bag WHERE id % 5 = 0")
            source.execute("INSERT INTO past_bag SELECT 1, 1 FROM generate_series(1, 3)")
        then = _rows(source)
        [[lsn]] = source.execute("SELECT pg_current_wal_lsn()::text").fetchall()
        for table in TABLES:
            stack.await_answer(f"SELECT id, n FROM {table} ORDER BY 1, 2", then[table])
        late.commit()
        source.execute("DELETE FROM past WHERE id = 10")
        source.execute("ALTER TABLE past ADD COLUMN later text")
        source.execute("UPDATE past SET later = 'x' WHERE id = 11")
        source.execute("TRUNCATE past_bag")
        source.execute("INSERT INTO past_bag VALUES (77, 77)")
        [[now]] = source.execute("SELECT pg_current_wal_lsn()::text").fetchall()
        after = _rows(source)
    for table in TABLES:
        stack.await_answer(f"SELECT id, n FROM {table} ORDER BY 1, 2", after[table])

    built = stack.answer("rebuild", *TABLES, "--until", lsn, timeout_s=300)
    assert [(row["table"], row["proof"]) for row in built] == [(t, "equal") for t in TABLES], built
    for row in built:
        assert "of the current table" in row["proved_by"], row
        assert row["name"].startswith(f"{row['table']}__at_")
        _await_registered(stack, row["name"])
        assert stack.query(f"SELECT id, n FROM {row['name']} ORDER BY 1, 2") == then[row["table"]]
    _assert_history(stack, then["past"], after["past"], lsn)
    # The current tables are unchanged.
    for table in TABLES:
        assert stack.query(f"SELECT id, n FROM {table} ORDER BY 1, 2") == after[table]
    known = {name for (name,) in stack.query("SELECT table_name FROM ops.freshness")}
    assert known & {row["name"] for row in built} == set()
    stack.verify(*TABLES)

    # Without the old files, a replay is the proof.
    for table in TABLES:
        Lakehouse(stack.settings).silver(table).vacuum(
            retention_hours=0, dry_run=False, enforce_retention_duration=False
        )
    again = stack.run("rebuild", *TABLES, "--until", lsn, "--format", "json", timeout_s=300)
    assert again.stderr.count("exists already") == len(TABLES)
    for row in json.loads(again.stdout):
        assert row["proof"] == "equal" and "replay" in row["proved_by"], row
    moment = built[0]["committed_at"]
    [by_time] = stack.answer("rebuild", "past", "--until", moment, "--as", "past_then")
    assert by_time["proof"] == "equal"
    _await_registered(stack, "past_then")
    assert stack.query("SELECT id, n FROM past_then ORDER BY 1, 2") == then["past"]
    _assert_mistakes_are_named(stack, lsn, now)

    for name in ("past_then", *(row["name"] for row in built)):
        stack.run("rebuild", "--drop", name)
        until(
            lambda name=name: name not in _registered(stack),  # type: ignore[misc]
            within_s=SOON_S,
            what=f"{name} gone from Trino",
        )


def _assert_history(
    stack: Stack, then: list[tuple[Any, ...]], after: list[tuple[Any, ...]], lsn: str
) -> None:
    """A history has, at an LSN, the rows that a rebuild until it has; its versions say what happened."""
    until(
        lambda: "past" in {name for (name,) in stack.query("SHOW TABLES FROM history")},
        within_s=SOON_S,
        what="history.past in Trino",
    )
    stack.await_answer("SELECT id, n FROM history.past WHERE _is_current ORDER BY 1, 2", after)
    at = parse_lsn(lsn)
    valid = f"_valid_from_lsn <= {at} AND (_valid_to_lsn > {at} OR _valid_to_lsn IS NULL)"
    assert stack.query(f"SELECT id, n FROM history.past WHERE {valid} ORDER BY 1, 2") == then
    ended = (
        "SELECT _ended_by, count(*) FROM history.past WHERE NOT _is_current GROUP BY 1 ORDER BY 1"
    )
    # Five rows and, later, two more were updated; two keys changed; two rows were deleted.
    assert stack.query(ended) == [("delete", 2), ("key change", 2), ("update", 7)]


def _assert_mistakes_are_named(stack: Stack, lsn: str, now: str) -> None:
    def refused(*words: str) -> str:
        return stack.run("rebuild", *words, expect=1).stderr

    assert "bronze does not reach FFFFFF/0 yet" in refused("past", "--until", "FFFFFF/0")
    assert "0/1 is before the beginning of bronze" in refused("past", "--until", "0/1")
    assert "neither an LSN nor a time" in refused("past", "--until", "yesterday")
    assert "there is no silver table `none_such`" in refused("none_such", "--until", lsn)
    assert "the name `past_bag` is taken" in refused("past", "--until", lsn, "--as", "past_bag")
    assert "the name `past_then` is taken" in refused("past", "--until", now, "--as", "past_then")
    assert "cannot be a table's name" in refused("past", "--until", lsn, "--as", "Past-1")
    assert "there is no table `past` that" in refused("--drop", "past")


def _make(source: psycopg.Connection[tuple[Any, ...]]) -> None:
    source.execute("CREATE TABLE past (id int PRIMARY KEY, n int)")
    source.execute("CREATE TABLE past_bag (id int, n int)")
    for table in TABLES:
        source.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
        source.execute(f"INSERT INTO {table} SELECT i, i FROM generate_series(1, 40) i")


def _rows(source: psycopg.Connection[tuple[Any, ...]]) -> Rows:
    return {t: source.execute(f"SELECT id, n FROM {t} ORDER BY 1, 2").fetchall() for t in TABLES}


def _registered(stack: Stack) -> set[str]:
    return {name for (name,) in stack.query("SHOW TABLES FROM silver")}


def _await_registered(stack: Stack, name: str) -> None:
    until(lambda: name in _registered(stack), within_s=SOON_S, what=f"{name} in Trino")

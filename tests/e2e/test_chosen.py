"""A profile's patterns choose tables and columns: only those reach Kafka and silver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.lake.lakehouse import Lakehouse
from tests.support.events import events
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 180.0
SECRET = "hunter2"
OURS = {f"public.{name}" for name in ("members", "labels", "later_one", "log_old", "log_new")} | {
    "audit.trail"
}
CHOSEN = """
table_include = "public.*"
table_exclude = "public.log_*"
column_exclude = "public.*.secret*, public.labels.who"
"""
WITH_LOGS = CHOSEN.replace("public.log_*", "public.log_never")
SERVICES = ("--only", "capture", "silver")

Source = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chosen") / "profile.toml"


@pytest.fixture(scope="module")
def stack(profile: Path) -> Iterator[Stack]:
    profile.write_text(CHOSEN)
    with fresh_stack() as stack:
        stack.up("--profile", str(profile), "--only", "postgres")
        with stack.source() as source:
            source.execute(
                "CREATE TABLE members (id int PRIMARY KEY, secret text, name text, secret_2 bytea)"
            )
            source.execute(f"INSERT INTO members VALUES (1, '{SECRET}', 'Ann', '\\x00')")
            source.execute("CREATE TABLE labels (who text, tag text)")
            source.execute("ALTER TABLE labels REPLICA IDENTITY FULL")
            source.execute("INSERT INTO labels VALUES ('a', 'x'), ('b', 'x'), ('c', 'y')")
            source.execute("CREATE TABLE log_old (id int PRIMARY KEY, line text)")
            source.execute("INSERT INTO log_old VALUES (1, 'one'), (2, 'two')")
            source.execute("CREATE SCHEMA audit")
            source.execute("CREATE TABLE audit.trail (id int PRIMARY KEY)")
        stack.up("--profile", str(profile), *SERVICES)
        yield stack


@pytest.fixture
def source(stack: Stack) -> Iterator[Source]:
    with stack.source() as connection:
        yield connection


def await_published(stack: Stack, table: str, chosen: bool) -> None:
    with stack.source() as source:
        until(
            lambda: published(source),
            lambda names: (table in names) == chosen,
            within_s=WITHIN_S,
            what=f"{table} {'in' if chosen else 'out of'} the publication",
        )


def published(source: Source) -> set[str]:
    found = source.execute(
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables"
        " WHERE schemaname <> 'headwater'"
    )
    return {name for (name,) in found} & OURS


def columns(stack: Stack, table: str) -> list[str]:
    """The data columns of a silver table."""
    fields = Lakehouse(stack.settings).silver(table).schema().fields
    return [field.name for field in fields if not field.name.startswith("_")]


def await_events(stack: Stack, table: str, number: int) -> list[dict[str, Any]]:
    return until(
        lambda: events(stack, table),
        lambda seen: len(seen) >= number,
        within_s=WITHIN_S,
        what=f"{number} events of {table}",
    )


def test_only_what_is_chosen_leaves_the_source_and_silver_equals_it(
    stack: Stack, source: Source
) -> None:
    await_events(stack, "public.members", 1)
    source.execute(f"UPDATE members SET secret = '{SECRET}2'")
    source.execute(f"INSERT INTO members VALUES (2, '{SECRET}', 'Bob', NULL)")
    source.execute("DELETE FROM members WHERE id = 1")
    source.execute("DELETE FROM labels WHERE who = 'b'")  # one of two that are equal in the lake
    source.execute("UPDATE log_old SET line = 'changed'")
    of_members = await_events(stack, "public.members", 4)
    of_labels = await_events(stack, "public.labels", 4)
    images = [e[side] for e in of_members for side in ("before", "after") if e[side]]
    assert {frozenset(image) for image in images} == {frozenset({"id", "name"})}
    assert {tuple(e["after"]) for e in of_labels if e["after"]} == {("tag",)}
    assert SECRET not in str(of_members)
    assert events(stack, "public.log_old") == events(stack, "audit.trail") == []
    assert published(source) == {"public.members", "public.labels"}
    verdicts = {row["table"]: row["verdict"] for row in stack.verify("members", "labels")}
    assert verdicts == {"members": "equal", "labels": "equal"}
    assert (columns(stack, "members"), columns(stack, "labels")) == (["id", "name"], ["tag"])


def test_tables_that_come_later_are_chosen_by_the_same_patterns(
    stack: Stack, source: Source
) -> None:
    source.execute("CREATE TABLE log_new (id int PRIMARY KEY)")
    source.execute("CREATE TABLE later_one (id int PRIMARY KEY, secret_key text, n int)")
    source.execute(f"INSERT INTO later_one SELECT i, '{SECRET}', i FROM generate_series(1, 3000) i")
    source.execute("ALTER TABLE members ADD COLUMN secret_3 text, ADD COLUMN age int")
    source.execute(f"INSERT INTO members VALUES (3, '{SECRET}', 'Cy', NULL, '{SECRET}', 40)")
    await_published(stack, "public.later_one", True)
    found = await_events(stack, "public.later_one", 3000)
    assert {frozenset(e["after"]) for e in found} == {frozenset({"id", "n"})}
    assert SECRET not in str(events(stack, "public.members"))
    assert "public.log_new" not in published(source)
    tables = ("members", "labels", "later_one")
    verdicts = {row["table"]: row["verdict"] for row in stack.verify(*tables)}
    assert verdicts == dict.fromkeys(tables, "equal")
    assert columns(stack, "members") == ["id", "name", "age"]


def test_a_profile_that_cannot_be_followed_is_refused_with_its_line(
    stack: Stack, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('table_exclude = "public.log_*"\ncolumn_exclude = "public.members.i?"\n')
    check = stack.checks("--profile", str(wrong), expect=1)["setting column_exclude"]
    assert check["status"] == "missing"
    assert (
        f"`public.members.i?` leaves out public.members.id, a column of a key (in line 2 of {wrong})"
        == (check["observed"])
    )


@pytest.mark.slow  # minutes
def test_a_table_that_is_chosen_again_loses_the_rows_that_went_meanwhile(
    stack: Stack, profile: Path
) -> None:
    for text, chosen in ((WITH_LOGS, True), (CHOSEN, False), (WITH_LOGS, True)):
        profile.write_text(text)
        stack.run("down", timeout_s=300)
        stack.up("--profile", str(profile), *SERVICES)
        await_published(stack, "public.log_old", chosen)
        if not chosen:
            with stack.source() as source:
                source.execute("DELETE FROM log_old WHERE id = 1")
        if chosen:
            until(
                lambda: stack.verdicts("log_old").get("log_old"),
                lambda verdict: verdict == "equal",
                within_s=WITHIN_S,
                what="log_old in silver as it is in the source",
            )

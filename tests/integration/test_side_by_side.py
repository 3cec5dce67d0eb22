"""Two stacks capture one database, each with its own slot, publication and role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.events import events
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 180.0
OWN_NAMES = 'slot_name = "second"\npublication_name = "second"\ncapture_role = "second_capture"\n'


@pytest.fixture(scope="module")
def first() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", "capture")
        yield stack


@pytest.fixture(scope="module")
def second(first: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    profile: Path = tmp_path_factory.mktemp("second") / "profile.toml"
    profile.write_text(OWN_NAMES)
    with fresh_stack() as stack:
        source = ("--source", first.settings.source_dsn, "--apply")
        stack.up(*source, "--profile", str(profile), "--only", "capture")
        yield stack


def test_a_second_stack_under_the_firsts_names_is_told_and_takes_nothing_from_it(
    first: Stack,
) -> None:
    with fresh_stack() as rival:
        dsn = first.settings.source_dsn
        rows = rival.checks("--source", dsn, "--apply", expect=1, timeout_s=180)
    role = rows["role headwater_capture"]
    assert role["status"] == "missing"
    assert "slot_name, publication_name and capture_role" in role["mend"]
    with psycopg.connect(first.settings.capture_dsn) as captured:  # its password is unchanged
        captured.execute("SELECT FROM headwater.heartbeat")


def test_both_stacks_carry_every_change_and_every_new_table(first: Stack, second: Stack) -> None:
    with first.source() as source:
        source.execute("INSERT INTO genres VALUES (9997, 'For both')")
        source.execute("CREATE TABLE shared (id int PRIMARY KEY, word text)")
        source.execute("INSERT INTO shared VALUES (1, 'before')")
        for publication in ("headwater", "second"):
            until(
                lambda publication=publication: source.execute(  # type: ignore[misc]
                    "SELECT FROM pg_publication_tables WHERE tablename = 'shared' AND pubname = %s",
                    [publication],
                ).fetchall(),
                within_s=WITHIN_S,
                what=f"the new table in the publication `{publication}`",
            )
        source.execute("INSERT INTO shared VALUES (2, 'after')")
    for stack in (first, second):
        until(
            lambda stack=stack: {e["after"]["genre_id"] for e in events(stack, "public.genres")},  # type: ignore[misc]
            lambda keys: 9997 in keys,
            within_s=WITHIN_S,
            what="the change in both stacks' topics",
        )
        until(
            lambda stack=stack: {  # type: ignore[misc]
                e["after"]["id"]: e["after"]["word"] for e in events(stack, "public.shared")
            },
            lambda rows: rows == {1: "before", 2: "after"},
            within_s=WITHIN_S,
            what="the new table's rows in both stacks' topics",
        )


def test_each_stack_has_what_is_its_own_in_the_source(first: Stack, second: Stack) -> None:
    with first.source() as source:
        slots = source.execute("SELECT slot_name FROM pg_replication_slots ORDER BY 1").fetchall()
        own = source.execute(
            "SELECT pubname, string_agg(tablename, ' ' ORDER BY tablename) "
            "FROM pg_publication_tables WHERE schemaname = 'headwater' GROUP BY 1 ORDER BY 1"
        ).fetchall()
        users = source.execute(
            "SELECT DISTINCT usename FROM pg_stat_replication ORDER BY 1"
        ).fetchall()
    assert slots == [("headwater",), ("second",)]
    assert own == [
        ("headwater", "heartbeat signal"),
        ("second", "heartbeat_second signal_second"),
    ]
    assert users == [("headwater_capture",), ("second_capture",)]


def test_the_second_stacks_preflight_finds_nothing_missing(first: Stack, second: Stack) -> None:
    dsn = first.settings.source_dsn
    rows = second.checks("--source", dsn)
    assert [row for row in rows.values() if row["status"] == "missing"] == []
    assert rows["slot second"]["observed"].startswith("in use")

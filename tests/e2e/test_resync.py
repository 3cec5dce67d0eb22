"""Resyncs read tables again into the running stream; then silver equals the source, whatever the stream missed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from app.capture.resync import DONE, Resync, progress
from app.source.source_tables import Names
from tests.support.events import events
from tests.support.random_writes import writing
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

PARTITIONS = 3
WITHIN_S = 240.0
ROWS = 6000
STOCK, BAG = "stock", "loose"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    profile = tmp_path_factory.mktemp("resync") / "profile.toml"
    profile.write_text(f"topic_partitions = {PARTITIONS}\n")
    with fresh_stack() as stack:
        stack.up("--profile", str(profile), "--only", "postgres")
        with stack.source() as source:
            source.execute(f"CREATE TABLE {STOCK} (id int PRIMARY KEY, n int, big text)")
            source.execute(
                f"INSERT INTO {STOCK} SELECT i, 0, repeat(md5(i::text), 20) "
                f"FROM generate_series(1, {ROWS}) i"
            )
            source.execute(f"CREATE TABLE {BAG} (word text, n int)")
            source.execute(f"ALTER TABLE {BAG} REPLICA IDENTITY FULL")
            source.execute(f"INSERT INTO {BAG} SELECT 'seed', i % 3 FROM generate_series(1, 30) i")
        stack.up("--only", "capture", "silver")
        assert stack.verdicts(STOCK, BAG) == {STOCK: "equal", BAG: "equal"}
        yield stack


def test_a_resync_under_writes_repairs_what_went_past_the_stream(stack: Stack, seed: int) -> None:
    with stack.source() as source:
        unseen(source, STOCK, "DELETE FROM {t} WHERE id % 10 = 0")
        unseen(source, STOCK, "UPDATE {t} SET n = -1 WHERE id % 10 = 1")
        unseen(
            source, STOCK, "INSERT INTO {t} SELECT i, -2, 'x' FROM generate_series(7000, 7100) i"
        )
    assert stack.verdicts(STOCK) == {STOCK: "differs"}
    with writing(stack.settings.source_dsn, seed, change) as done:
        [row] = stack.answer("resync", STOCK, timeout_s=WITHIN_S)
        until(lambda: len(done), lambda n: n > 100, within_s=WITHIN_S, what="writes meanwhile")
    assert (row["table"], row["kind"], row["state"]) == (f"public.{STOCK}", "incremental", "done")
    assert row["rows"] > ROWS * 0.8
    assert stack.verdicts(STOCK) == {STOCK: "equal"}


def test_a_resync_of_an_idle_table_reads_every_row_behind_its_beginning(stack: Stack) -> None:
    stack.run("resync", STOCK, timeout_s=WITHIN_S)
    [one] = [one for one in resyncs(stack) if one.name == STOCK]
    assert one.state == DONE
    found = [e for e in events(stack, f"public.{STOCK}") if e["op"] != "m"]  # from one partition
    with stack.source() as source:
        there = {number for (number,) in source.execute(f"SELECT id FROM {STOCK}")}
    there &= {(e["after"] or e["before"])["id"] for e in found}
    read = [e for e in found if e["op"] == "r" and lsn_of(e) >= one.below_lsn]
    assert {e["after"]["id"] for e in read} == there
    assert len(there) > ROWS / PARTITIONS / 2
    assert stack.verdicts(STOCK) == {STOCK: "equal"}


def test_a_resync_of_a_table_without_a_key_gives_each_row_as_often_as_the_source_has_it(
    stack: Stack,
) -> None:
    with stack.source() as source:
        unseen(source, BAG, "DELETE FROM {t} WHERE ctid IN (SELECT ctid FROM {t} LIMIT 7)")
        unseen(source, BAG, "INSERT INTO {t} SELECT 'unseen', 1 FROM generate_series(1, 3)")
    assert stack.verdicts(BAG) == {BAG: "differs"}
    [row] = stack.answer("resync", BAG, timeout_s=WITHIN_S)
    assert (row["kind"], row["rows"], row["state"]) == ("bag", 26, "done")
    assert stack.verdicts(BAG) == {BAG: "equal"}
    with stack.source() as source:
        unseen(source, BAG, "DELETE FROM {t}")
    stack.run("resync", BAG, timeout_s=WITHIN_S)
    assert stack.verdicts(BAG) == {BAG: "equal"}
    with stack.source() as source:
        assert source.execute(f"SELECT count(*) FROM {BAG}").fetchone() == (0,)


def unseen(source: psycopg.Connection[tuple[Any, ...]], table: str, statement: str) -> None:
    """Change a table without an event: it is not published during this transaction."""
    name = sql.Identifier(table)
    with source.transaction():
        source.execute(sql.SQL("ALTER PUBLICATION headwater DROP TABLE {}").format(name))
        source.execute(sql.SQL(statement).format(t=name))
        source.execute(sql.SQL("ALTER PUBLICATION headwater ADD TABLE {}").format(name))


def lsn_of(event: dict[str, Any]) -> int:
    """As silver sees it: rows that were read in chunks have the stream's position."""
    return int(event["source"]["lsn"] or json.loads(event["source"]["sequence"])[1])


def resyncs(stack: Stack) -> list[Resync]:
    with stack.source() as source:
        return progress(source, Names.of(stack.settings))


def change(connection: psycopg.Connection[tuple[Any, ...]], rng: random.Random) -> None:
    row = {"id": rng.randint(1, ROWS + 200), "new": rng.randint(1, ROWS + 200), "n": rng.random()}
    choice = rng.random()
    if choice < 0.3:
        connection.execute(
            f"INSERT INTO {STOCK} VALUES (%(id)s, 1, repeat('y', 3000)) ON CONFLICT DO NOTHING", row
        )
    elif choice < 0.5:
        connection.execute(f"DELETE FROM {STOCK} WHERE id = %(id)s", row)
    elif choice < 0.9:
        connection.execute(f"UPDATE {STOCK} SET n = n + 1, big = md5(big) WHERE id = %(id)s", row)
    else:
        connection.execute(
            f"UPDATE {STOCK} SET id = %(new)s WHERE id = %(id)s AND NOT EXISTS "
            f"(SELECT FROM {STOCK} WHERE id = %(new)s)",
            row,
        )


def test_partitions_that_come_go_and_are_truncated_reach_silver(stack: Stack) -> None:
    with stack.source() as source:
        source.execute(
            "CREATE TABLE parted (id int, day int, note text, PRIMARY KEY (id, day)) "
            "PARTITION BY RANGE (day)"
        )
        for day in range(4):
            source.execute(
                f"CREATE TABLE parted_{day} PARTITION OF parted FOR VALUES FROM ({day}) TO ({day + 1})"
            )
        source.execute(
            "CREATE TABLE parted_rest PARTITION OF parted DEFAULT PARTITION BY LIST (day)"
        )
        source.execute("CREATE TABLE parted_9 PARTITION OF parted_rest FOR VALUES IN (9)")
        source.execute("INSERT INTO parted SELECT i, i % 4, 'p' FROM generate_series(1, 800) i")
        source.execute("INSERT INTO parted SELECT i, 9, 'nested' FROM generate_series(1, 50) i")
        await_equal(stack, "parted")
        source.execute("CREATE TABLE parted_7 PARTITION OF parted_rest FOR VALUES IN (7)")
        source.execute("INSERT INTO parted VALUES (1, 7, 'through the root')")
        source.execute("CREATE TABLE parted_6 PARTITION OF parted_rest FOR VALUES IN (6)")
        await_looks(stack)
        source.execute("DROP TABLE parted_6")
        await_looks(stack)
        assert resyncs_of(stack, "parted") == 0, "the usual changes of partitions cost no resync"
        source.execute("DROP TABLE parted_0")
        await_resyncs(stack, "parted", 1)
        await_equal(stack, "parted")
        source.execute("ALTER TABLE parted DETACH PARTITION parted_1")
        source.execute("TRUNCATE parted_2")
        await_resyncs(stack, "parted", 2)
        await_equal(stack, "parted")
        with source.transaction():  # like a load in one transaction
            source.execute("CREATE TABLE parted_0 (LIKE parted INCLUDING ALL)")
            source.execute(
                "INSERT INTO parted_0 SELECT i, 0, 'loaded' FROM generate_series(1, 70) i"
            )
            source.execute(
                "ALTER TABLE parted ATTACH PARTITION parted_0 FOR VALUES FROM (0) TO (1)"
            )
        await_resyncs(stack, "parted", 3)
        await_equal(stack, "parted")
        stack.kill("capture", ready=False)
        source.execute("TRUNCATE parted_9")  # while `capture` is not looking, or almost
        await_resyncs(stack, "parted", 4)
        await_equal(stack, "parted")
        assert source.execute("SELECT count(*) > 200 FROM parted").fetchone() == (True,)


@pytest.mark.parametrize("captured_before", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_table_that_is_swapped_in_by_name_takes_its_place_in_silver(
    stack: Stack, captured_before: bool
) -> None:
    own = "p" if captured_before else "q"
    now, new, old = f"{own}_now", f"{own}_new", f"{own}_old"
    with stack.source() as source:
        source.execute(f"CREATE TABLE {now} (id int PRIMARY KEY, n int)")
        source.execute(f"INSERT INTO {now} SELECT i, 1 FROM generate_series(1, 300) i")
        await_equal(stack, now)
        await_taken(source)

        def make_new() -> None:
            source.execute(f"CREATE TABLE {new} (id int PRIMARY KEY, n int)")
            source.execute(f"INSERT INTO {new} SELECT i, 2 FROM generate_series(200, 600) i")

        def swap() -> None:
            source.execute(f"ALTER TABLE {now} RENAME TO {old}")
            source.execute(f"ALTER TABLE {new} RENAME TO {now}")

        if captured_before:
            make_new()
            await_equal(stack, new)
            await_taken(source)
            with source.transaction():
                swap()
        else:
            with source.transaction():
                make_new()
                swap()
        source.execute(f"UPDATE {now} SET n = 3 WHERE id % 5 = 0")
        source.execute(f"DELETE FROM {old} WHERE id % 7 = 0")
        source.execute(f"INSERT INTO {now} VALUES (1, 4)")
    await_equal(stack, now, old)


@pytest.mark.slow  # the test before swaps two tables
def test_three_tables_that_exchange_their_names_exchange_their_rows(stack: Stack) -> None:
    names = ("ring_a", "ring_b", "ring_c")
    with stack.source() as source:
        for number, name in enumerate(names):
            source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)")
            first, last = number * 100, number * 100 + 150
            source.execute(
                f"INSERT INTO {name} SELECT i, {number} FROM generate_series({first}, {last}) i"
            )
        await_equal(stack, *names)
        await_taken(source)
        with source.transaction():
            source.execute("ALTER TABLE ring_a RENAME TO ring_x")
            source.execute("ALTER TABLE ring_b RENAME TO ring_a")
            source.execute("ALTER TABLE ring_c RENAME TO ring_b")
            source.execute("ALTER TABLE ring_x RENAME TO ring_c")
        for name in names:
            source.execute(f"UPDATE {name} SET n = n + 10 WHERE id % 3 = 0")
    await_equal(stack, *names)


def test_a_table_that_is_renamed_or_gets_another_schema_is_there_with_its_rows(
    stack: Stack,
) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE before_it (id int PRIMARY KEY, n int)")
        source.execute("INSERT INTO before_it SELECT i, 1 FROM generate_series(1, 200) i")
        source.execute("CREATE TABLE moves (id int PRIMARY KEY, n int)")
        source.execute("INSERT INTO moves SELECT i, 1 FROM generate_series(1, 100) i")
        await_equal(stack, "before_it", "moves")
        await_taken(source)
        source.execute("CREATE SCHEMA elsewhere")
        source.execute("ALTER TABLE before_it RENAME TO after_it")
        source.execute("ALTER TABLE moves SET SCHEMA elsewhere")
        source.execute("UPDATE after_it SET n = 2 WHERE id < 20")
    await_equal(stack, "after_it", "elsewhere__moves")


@pytest.mark.slow
def test_a_resync_goes_on_whatever_is_killed_in_its_middle(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE large (id int PRIMARY KEY, n int, pad text)")
        source.execute(
            "INSERT INTO large SELECT i, 0, repeat('x', 200) FROM generate_series(1, 60000) i"
        )
        await_equal(stack, "large")
        unseen(source, "large", "DELETE FROM {t} WHERE id % 3 = 0")
    for service in ("connect", "capture", "silver"):
        asked = stack.start("resync", "large")
        try:
            until(
                lambda: [one for one in resyncs(stack) if one.name == "large"],
                lambda found: bool(found) and found[0].is_open and found[0].rows > 0,
                within_s=WITHIN_S,
                what="rows that a resync has read",
            )
            stack.kill(service, ready=False)
            _, told = asked.communicate(timeout=WITHIN_S)
            assert asked.returncode == 0, told
        finally:
            asked.kill()
            asked.communicate()
    assert stack.verdicts("large") == {"large": "equal"}


@pytest.mark.slow  # a minute; rebuilds and resyncs are tested one by one
def test_a_rebuild_after_resyncs_gives_the_same_rows(stack: Stack) -> None:
    for table in (STOCK, "parted", BAG):
        stack.run("rebuild", table, timeout_s=WITHIN_S)
    assert set(stack.verdicts(STOCK, "parted", BAG).values()) == {"equal"}


def await_equal(stack: Stack, *tables: str) -> None:
    until(
        lambda: stack.verdicts(*tables),
        lambda found: found == dict.fromkeys(tables, "equal"),
        within_s=WITHIN_S,
        what="silver equal to the source",
        every_s=2,
    )


def await_taken(source: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Wait until `capture` has recorded that the first rows of all tables were read."""
    until(
        lambda: source.execute(
            "SELECT id FROM headwater.signal WHERE starts_with(id, 'taken-') AND type <> 'done'"
        ).fetchall(),
        lambda waiting: waiting == [],
        within_s=WITHIN_S,
        what="the first rows of all tables",
    )


def resyncs_of(stack: Stack, table: str) -> int:
    """The number of requested resyncs of a table."""
    return max([one.asked for one in resyncs(stack) if one.name == table], default=0)


def await_resyncs(stack: Stack, table: str, count: int) -> None:
    until(
        lambda: [one for one in resyncs(stack) if one.name == table],
        lambda found: bool(found) and found[0].finished >= count and not found[0].is_open,
        within_s=WITHIN_S,
        what=f"resync {count} of {table}",
    )


def await_looks(stack: Stack) -> None:
    """Wait until `capture` has checked the source once more, after everything that is committed now."""
    with stack.source() as source:
        for _ in range(2):  # the first one may come from a check that had begun before
            name = f"looked_{random.getrandbits(32)}"
            source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
            until(
                lambda name=name: source.execute(  # type: ignore[misc]
                    "SELECT FROM pg_publication_tables WHERE tablename = %s", [name]
                ).fetchall(),
                within_s=WITHIN_S,
                what="another table in the publication",
            )
            source.execute(f"DROP TABLE {name}")

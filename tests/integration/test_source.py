"""The events in the topics of the embedded source, with the real Debezium, Connect and Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from app.connectors.first_snapshot import ask, estimated_rows
from app.errors import HeadwaterError
from app.source.database import connect
from tests.support.events import events
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SERVICES = ("postgres", "kafka", "s3", "connect", "store", "connectors", "capture")
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", *SERVICES)
        with stack.source() as connection:
            # Heartbeats come only in the stream, so the initial snapshot has ended.
            until(
                lambda: connection.execute("SELECT FROM headwater.heartbeat").fetchall(),
                within_s=WITHIN_S,
                what="the first heartbeat",
            )
        yield stack


@pytest.fixture
def source(stack: Stack) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with stack.source() as connection:
        yield connection


def confirmed(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    """The position up to which the slot has released the WAL, in bytes."""
    row = connection.execute(
        "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_capture_role_is_no_superuser_and_may_write_only_the_pipelines_own_tables(
    stack: Stack,
) -> None:
    with psycopg.connect(stack.settings.capture_dsn, autocommit=True) as role:
        rights = role.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication"
            " FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert rights == (False, False, False, False, True)
        assert role.execute("SELECT count(*) > 0 FROM movies").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute("DELETE FROM movies")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute("CREATE TABLE mine (id int)")


def test_a_database_whose_texts_have_no_encoding_is_refused_in_words(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute("CREATE DATABASE legacy TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        dsn = make_conninfo(stack.settings.source_dsn, dbname="legacy")
        with pytest.raises(HeadwaterError, match=r"has no encoding \(SQL_ASCII\)"):
            connect(dsn, application="test")
    finally:
        source.execute("DROP DATABASE legacy WITH (FORCE)")


def test_the_worker_tells_the_rows_that_the_first_snapshot_read(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    found = ask(f"http://127.0.0.1:{stack.settings.ports.number('connect_metrics')}/metrics")
    assert found is not None
    assert not found.running
    counted = source.execute("SELECT count(*) FROM movies").fetchone()
    assert counted is not None
    assert found.rows["public.movies"] == counted[0] > 100


def test_how_many_rows_there_are_is_estimated_without_waiting_for_a_lock(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute("CREATE TABLE sized (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    source.execute("CREATE TABLE sized_1 PARTITION OF sized FOR VALUES FROM (0) TO (500)")
    source.execute("CREATE TABLE sized_2 PARTITION OF sized FOR VALUES FROM (500) TO (1000)")
    source.execute("INSERT INTO sized SELECT generate_series(0, 999)")
    source.execute("CREATE TABLE unsized (id int PRIMARY KEY) WITH (autovacuum_enabled = false)")
    source.execute("INSERT INTO unsized VALUES (1)")
    names = [("public", "sized"), ("public", "unsized")]
    until(
        lambda: set(names) <= set(estimated_rows(stack.settings)),
        within_s=WITHIN_S,
        what="both tables are captured",
    )
    source.execute("ANALYZE sized")
    with source.transaction():
        source.execute("LOCK TABLE sized, unsized IN ACCESS EXCLUSIVE MODE")
        found = estimated_rows(stack.settings)
    assert [found[name] for name in names] == [1_000, None]


def test_the_publication_names_its_tables(
    source: psycopg.Connection[tuple[Any, ...]],
) -> None:
    assert source.execute("SELECT puballtables FROM pg_publication").fetchall() == [(False,)]


def test_an_edit_and_its_delete_reach_the_topic(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute("INSERT INTO genres VALUES (9999, 'Test Pattern')")
    source.execute("DELETE FROM genres WHERE name = 'Test Pattern'")

    def operations() -> list[str]:
        found = events(stack, "public.genres")
        keys = [
            e["after"]["genre_id"]
            for e in found
            if (e["after"] or {}).get("name") == "Test Pattern"
        ]
        return [e["op"] for e in found if (e["after"] or e["before"])["genre_id"] in keys]

    until(operations, lambda seen: seen == ["c", "d"], within_s=WITHIN_S, what="the genre's events")


def test_the_slot_moves_on_while_only_other_tables_are_written(
    source: psycopg.Connection[tuple[Any, ...]],
) -> None:
    source.execute("CREATE UNLOGGED TABLE IF NOT EXISTS elsewhere (note text)")
    source.execute("CREATE TEMPORARY TABLE written (note text)")
    row = source.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    # Writes to the log, but not to captured tables.
    source.execute("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000))")
    until(
        lambda: confirmed(source),
        lambda position: position > int(row[0]) + 1_000_000,
        within_s=WITHIN_S,
        what="the slot's confirmed position past the noise",
    )


def test_every_odd_type_arrives_as_the_server_prints_it(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    values = {
        "an_interval interval": "1 year 2 mons -3 days 04:05:06.789",
        "a_time time": "24:00:00",
        "a_timetz timetz": "12:34:56.123456+02",
        "a_date date": "0044-03-15 BC",
        "an_endless_date date": "infinity",
        "some_bits bit(8)": "10101010",
        "more_bits varbit": "101",
        "a_point point": "(1.5,-2e+20)",
        "a_path path": "((0,0),(1,1e-07))",
        "a_range tstzrange": '["2026-01-01 00:00:00+00",)',
        "a_multirange int4multirange": "{[1,3),[5,7)}",
        "a_query tsquery": "'fat' & 'cat'",
        "a_pair pair": '(1,"two, three")',
        "a_lsn pg_lsn": "16/B374D848",
        "numbers int[]": "{1,NULL,3}",
        "grid int[]": "{{1,2},{3,4}}",
        "amounts numeric[]": "{1.50,NaN,NULL}",
        "moods mood[]": "{sad,NULL}",
        "times time[]": "{12:34:56.123456}",
        "stays interval[]": '{"1 day 02:03:04"}',
        "moments timestamptz[]": '{"2026-11-21 10:34:56.123456+00"}',
        "blobs bytea[]": r'{"\\x00ff",NULL}',
        "texts text[]": '{a,NULL,"b,c","q\\"uote"}',
        "a_real real": "0.1",
    }
    names = [column.split()[0] for column in values]
    source.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    source.execute("CREATE TYPE pair AS (number int, word text)")
    row = "(%s, " + ", ".join(["%s"] * len(values)) + ")"
    statement = f"INSERT INTO oddities VALUES {row}"
    with source.transaction():  # together with its first row, which comes by a snapshot
        source.execute(f"CREATE TABLE oddities (id int PRIMARY KEY, {', '.join(values)})")
        source.execute(statement, [1, *values.values()])
    until(
        lambda: source.execute(
            "SELECT FROM pg_publication_tables WHERE tablename = 'oddities'"
        ).fetchall(),
        within_s=WITHIN_S,
        what="the new table in the publication",
    )
    source.execute(statement, [2, *values.values()])

    def rows() -> dict[int, dict[str, Any]]:
        return {e["after"]["id"]: e["after"] for e in events(stack, "public.oddities")}

    seen = until(rows, lambda found: set(found) == {1, 2}, within_s=WITHIN_S, what="both odd rows")
    source.execute("SET intervalstyle = 'postgres'")
    casts = ", ".join(f"{name}::text" for name in names)
    printed = source.execute(f"SELECT id, {casts} FROM oddities ORDER BY id").fetchall()
    for number, *texts in printed:
        # A real's exact value, as a cast to double precision gives it.
        assert [seen[number][name] for name in names] == [*texts[:-1], 0.10000000149011612]


def test_a_null_is_never_replaced_by_the_columns_default(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute(
        "CREATE TABLE defaults (id int PRIMARY KEY, n int DEFAULT 5, t time DEFAULT '1:00', "
        "r real DEFAULT 0.5)"
    )
    source.execute("INSERT INTO defaults VALUES (1, NULL, NULL, NULL), (2, 5, '1:00', 'NaN')")
    rows = until(
        lambda: {e["after"]["id"]: e["after"] for e in events(stack, "public.defaults")},
        lambda found: len(found) == 2,
        within_s=WITHIN_S,
        what="the rows of the new table",
    )
    assert rows == {
        1: {"id": 1, "n": None, "t": None, "r": None},
        2: {"id": 2, "n": 5, "t": "01:00:00", "r": "NaN"},
    }


def await_word_of_capture(stack: Stack, words: str) -> None:
    """Wait until the guard of new tables has logged these words."""

    def said() -> str:
        ended = stack.run("logs", "capture")
        return ended.stdout + ended.stderr

    until(said, lambda text: words in text, within_s=WITHIN_S, what=f"`{words}` of the guard")


def test_a_new_table_without_a_key_arrives_whole_once_its_identity_is_full(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute("CREATE TABLE bag (colour text)")
    source.execute("INSERT INTO bag VALUES ('red'), ('red'), ('blue')")
    await_word_of_capture(stack, 'ALTER TABLE "public"."bag" REPLICA IDENTITY FULL;')
    source.execute("ALTER TABLE bag REPLICA IDENTITY FULL")
    until(
        lambda: source.execute(
            "SELECT FROM pg_publication_tables WHERE tablename = 'bag'"
        ).fetchall(),
        within_s=WITHIN_S,
        what="the table in the publication",
    )
    source.execute("UPDATE bag SET colour = 'green' WHERE colour = 'blue'")
    found = until(
        lambda: [(e["op"], e["before"], e["after"]) for e in events(stack, "public.bag")],
        lambda seen: len(seen) == 4,
        within_s=WITHIN_S,
        what="the bag's events",
    )
    red, blue, green = ({"colour": colour} for colour in ("red", "blue", "green"))
    assert sorted(found[:3], key=str) == [
        ("r", None, blue), ("r", None, red), ("r", None, red),
    ]  # fmt: skip
    assert found[3] == ("u", blue, green)


def test_a_table_that_the_connector_cannot_read_does_not_stop_the_others(
    stack: Stack, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute('CREATE TABLE twins (id int PRIMARY KEY, v int, "V" int)')
    source.execute("INSERT INTO twins VALUES (1, 1, 2)")
    await_word_of_capture(
        stack, "public.twins is left out: columns whose names differ in case only"
    )
    told = stack.run("status").stderr
    assert "public.twins is left out: columns whose names differ in case only (v, V)" in told
    # To capture this table, the connector restarts.
    source.execute("CREATE TABLE after_twins (id int PRIMARY KEY)")
    source.execute("INSERT INTO after_twins VALUES (1)")
    until(
        lambda: events(stack, "public.after_twins"), within_s=WITHIN_S, what="another table's row"
    )
    source.execute('ALTER TABLE twins RENAME "V" TO w')
    until(
        lambda: [event["after"] for event in events(stack, "public.twins")],
        lambda rows: rows == [{"id": 1, "v": 1, "w": 2}],
        within_s=WITHIN_S,
        what="the row of the table that was repaired",
    )


def test_preflight_finds_nothing_missing_in_the_captured_source(stack: Stack) -> None:
    by_check = stack.checks()
    assert [row for row in by_check.values() if row["status"] == "missing"] == []
    assert by_check["table public.movies"]["status"] in ("ok", "note")
    assert by_check["slot headwater"]["observed"].startswith("in use")


def test_registering_again_changes_nothing(stack: Stack) -> None:
    with psycopg.connect(stack.settings.source_dsn, autocommit=True) as connection:
        before = connection.execute("SELECT active_pid FROM pg_replication_slots").fetchall()
        stack.up("--only", *SERVICES)
        assert (
            connection.execute("SELECT active_pid FROM pg_replication_slots").fetchall() == before
        )


def test_preflight_of_another_database_changes_nothing_without_apply(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE DATABASE shop")
    dsn = stack.settings.source_dsn.rsplit("/", 1)[0] + "/shop"
    with psycopg.connect(dsn, autocommit=True) as shop:
        shop.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        shop.execute("CREATE TABLE notes (note text)")
        told = stack.run("preflight", "--source", dsn, "--format", "json", expect=1)
        rows = {row["check"]: row for row in json.loads(told.stdout)}
        assert rows["publication headwater"]["status"] == "missing"
        assert rows["slot headwater"]["status"] == "missing"  # it belongs to the other database
        assert rows["table public.notes"]["mend"].startswith(
            'ALTER TABLE "public"."notes" REPLICA IDENTITY FULL;'
        )
        assert shop.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)
        assert shop.execute("SELECT to_regnamespace('headwater')").fetchone() == (None,)
        stack.run("preflight", "--source", dsn, "--apply", expect=None)
        assert shop.execute("SELECT count(*) FROM pg_publication").fetchone() == (1,)
        assert shop.execute(
            "SELECT relreplident::text FROM pg_class WHERE relname = 'notes'"
        ).fetchone() == ("f",)
        assert stack.settings.secret("capture_password") not in told.stdout + told.stderr

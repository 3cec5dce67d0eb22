"""`ddl plan` tries statements in a real source and rolls them back; the catalog shows their changes."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.catalog.ddl import checked_statements, try_statements
from app.errors import HeadwaterError
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.contract.evolution import changes_between, next_version
from spark_streaming.contract.source_catalog import read_contract
from spark_streaming.ops.schema_changes import SchemaChanges
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.left_out_tables import LeftOutTables
from tests.support.disk_lake import DiskLake

FILMS = ("public", "films")


@pytest.fixture
def dsn(dsn: str) -> str:
    """A database with one table and a row."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create type mood as enum ('sad', 'happy')")
        connection.execute(
            "create table films (id int primary key, title varchar(9), size real, m mood)"
        )
        connection.execute("insert into films values (1, 'a', 0.1, 'sad')")
    return dsn


def _kinds(dsn: str, text: str) -> list[tuple[str, str]]:
    effects = try_statements(dsn, checked_statements(text))
    found = [
        (f"{schema}.{table}", change.kind)
        for effect in effects
        for schema, table in [effect.table]
        for change in changes_between(effect.before, effect.after)
    ]
    return found + [(e.table[1], "table_truncated") for e in effects if e.truncated]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("alter table films add a int", ["add_column"]),
        ("alter table films rename title to name", ["rename_column"]),
        ("alter table films alter size type double precision", ["widen_type"]),
        (
            "alter table films alter title type varchar(5)",
            ["widen_type"],
        ),  # silver's column stays a string
        ("alter table films alter title type int using 0", ["incompatible_change"]),
        ("alter type mood add value 'calm'", ["enum_value"]),
        ("alter table films replica identity full", ["replica_identity"]),
        ("alter table films drop constraint films_pkey", ["key_change"]),
        ("drop table films; create table films (id int primary key)", ["table_recreated"]),
        ("drop table films", ["table_dropped"]),
        ("create index on films (title); comment on table films is 'x'", []),
        ("alter table films add b int; alter table films drop b", []),
    ],
)
def test_statements_are_told_by_their_effect_and_undone(
    dsn: str, text: str, kinds: list[str]
) -> None:
    with psycopg.connect(dsn) as connection:
        before = read_contract(connection, *FILMS)
    assert [kind for _, kind in _kinds(dsn, text)] == kinds
    with psycopg.connect(dsn) as connection:
        assert read_contract(connection, *FILMS) == before
        assert connection.execute("select count(*) from films").fetchone() == (1,)


def test_a_truncate_is_told_and_undone(dsn: str) -> None:
    assert _kinds(dsn, "truncate films") == [("films", "table_truncated")]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from films").fetchone() == (1,)


def test_a_default_of_its_own_for_each_row_is_warned_of(dsn: str) -> None:
    [effect] = try_statements(dsn, ["alter table films add u uuid default gen_random_uuid()"])
    [change] = changes_between(effect.before, effect.after)
    assert "gen_random_uuid()" in change.warning


def test_a_lock_that_somebody_has_is_not_waited_for_long(dsn: str) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("select * from films")
        with pytest.raises(HeadwaterError, match="did not get its lock"):
            try_statements(dsn, ["alter table films add a int"])


def test_a_refused_statement_is_told_with_the_servers_words(dsn: str) -> None:
    with pytest.raises(HeadwaterError) as caught:
        try_statements(dsn, ["alter table nowhere add a int"])
    assert "nowhere" in str(caught.value.detail)


def test_two_statements_never_pass_for_one(dsn: str) -> None:
    with pytest.raises(HeadwaterError):
        try_statements(dsn, ["alter table films add a int; commit"])
    with psycopg.connect(dsn) as connection:
        assert "a" not in _contract(connection).by_name


def _contract(connection: psycopg.Connection[Any]) -> Contract:
    found = read_contract(connection, *FILMS)
    assert found is not None
    return found


def test_a_look_sees_each_change_and_nothing_else(dsn: str) -> None:
    watch = CatalogWatch(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        first = watch.check([FILMS, ("public", "nowhere")])
        assert list(first.stamps) == [FILMS]
        known = _contract(connection)
        connection.execute("insert into films values (2, 'b', 0.2, 'happy')")
        connection.execute("analyze films")
        same = watch.check([FILMS])
        assert same.stamps == first.stamps
        assert same.after_lsn >= first.after_lsn > 0
        connection.execute("alter table films alter size type double precision")
        changed = watch.check([FILMS])
        assert changed.stamps != first.stamps
        assert changed.by_lsn >= changed.after_lsn >= same.after_lsn
        xid = connection.execute("select txid_current() - 1").fetchone()
        newer = next_version(known, _contract(connection))
        assert xid == (newer.xid,), "the transaction of the ALTER TABLE"
        assert newer.by_name["size"].xid == newer.xid
    watch.close()


def test_columns_whose_names_differ_in_case_only_are_found(dsn: str) -> None:
    watch = CatalogWatch(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert watch.colliding_columns() == {}
        connection.execute('create table "T" (a int, "A" int, b int, "é" int, "É" int)')
        assert watch.colliding_columns() == {("public", "T"): "a, A; é, É"}
        connection.execute('alter table "T" rename "A" to c')
        connection.execute('alter table "T" rename "É" to d')
        assert watch.colliding_columns() == {}
        connection.execute('drop table "T"')
    watch.close()


def test_a_table_whose_name_another_has_is_recorded_once_and_the_kept_one_is_the_other(
    dsn: str, tmp_path: Path
) -> None:
    watch, records, now = CatalogWatch(dsn), SchemaChanges(DiskLake(tmp_path), {}), [0.0]
    left_out = LeftOutTables(watch, records, lambda: now[0], lambda: [("public", "Films")])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute('create table "Films" (id int primary key)')
        connection.execute("create schema public_films")
        connection.execute("create table public_films.t (id int primary key)")
        for second in (0.0, 60.0, 120.0):
            now[0] = second
            left_out.check()
    records.flush()
    found = records.ensure().to_pyarrow_table().to_pylist()
    assert [(row["table_name"], row["kind"], row["outcome"]) for row in found] == [
        ("public.films", "name_taken", "left_out")
    ]
    assert "would share its silver table with public.Films" in found[0]["detail"]
    watch.close()


def test_a_look_ends_where_the_server_process_hangs_and_the_next_goes_by_another(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_streaming.schema.catalog_watch.ANSWER_S", 1.0)
    watch = CatalogWatch(dsn)
    watch.check([FILMS])
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute(
            "select pid from pg_stat_activity where application_name = 'headwater silver'"
            " and datname = current_database()"
        ).fetchall()
        [(pid,)] = found
        os.kill(pid, signal.SIGSTOP)  # the kernel still accepts its connections
        try:
            looked = ThreadPoolExecutor(1).submit(watch.check, [FILMS])
            assert FILMS in looked.result(timeout=30).stamps
        finally:
            os.kill(pid, signal.SIGCONT)
    watch.close()


def test_a_source_that_is_away_is_not_asked_again_at_once() -> None:
    now = [0.0]
    watch = CatalogWatch("postgresql://nobody@127.0.0.1:1/none", clock=lambda: now[0])
    with pytest.raises(CatalogUnreachableError) as first:
        watch.check([FILMS])
    with pytest.raises(CatalogUnreachableError) as second:
        watch.check([FILMS])
    assert str(second.value) == str(first.value)

"""A real source records each definition of its tables completely, with the position where it begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from app.source.definition_notes import Notes, notes_finding, read_notes
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import LOG_START
from spark_streaming.contract.source_catalog import read_contract, recorded_contracts
from spark_streaming.schema.catalog_watch import CatalogWatch

Connection = psycopg.Connection[tuple[Any, ...]]
ROLE = "headwater"  # the server's owner is used as the capture role
FILMS = ("public", "films")


@pytest.fixture
def dsn(dsn: str) -> str:
    """A database that records definitions."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("create schema headwater")
        for fix in notes_finding(Notes(may_make=True), ROLE).fixes:
            owner.execute(fix.run or "")
    return dsn


def _now(source: Connection) -> int:
    [(lsn,)] = source.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchall()
    return int(lsn)


def _bare(contract: Contract | None) -> Contract | None:
    return contract and replace(contract, begins_at_lsn=None, noted_lsn=None, xid=None)


def test_each_note_is_the_contract_that_the_catalog_had_then(source: Connection) -> None:
    source.execute("create type mood as enum ('sad', 'happy'); create domain price as numeric(9,2)")
    source.execute(
        "set timezone = 'Asia/Tokyo'; set search_path = public; set datestyle = 'German'"
    )
    seen = list[Contract | None]()
    for statement in (
        "create table films (id int primary key, m mood[], p price, r real, twice int"
        " generated always as (id * 2) stored)",
        "alter table films add at timestamptz default '2026-01-01 00:00:00+00'",
        "alter table films rename r to size",
        "alter table films alter size type double precision, drop p",
        "alter table films drop constraint films_pkey, add primary key (id, at)",
        "alter table films replica identity full",
    ):
        source.execute(statement.encode())
        seen.append(read_contract(source, *FILMS))
    noted = recorded_contracts(source, *FILMS, LOG_START)
    assert [_bare(contract) for contract in noted] == [_bare(contract) for contract in seen]
    assert seen[-1] is not None and seen[-1].noted_lsn == noted[-1].begins_at_lsn
    assert recorded_contracts(source, *FILMS, noted[-2].noted_lsn or LOG_START) == noted[-1:]


def test_a_note_lies_between_the_rows_before_and_behind_the_change(source: Connection) -> None:
    source.execute("create table films (id int primary key)")
    with source.transaction():
        source.execute("insert into films values (1)")
        before = _now(source)
        source.execute("alter table films add title text")
        after = _now(source)
        source.execute("insert into films values (2, 'b')")
    [_, added] = recorded_contracts(source, *FILMS, LOG_START)
    assert before <= (added.begins_at_lsn or 0) <= after


def test_what_is_rolled_back_or_no_table_of_ours_is_not_noted(source: Connection) -> None:
    source.execute("create table films (id int primary key)")
    with source.transaction(force_rollback=True):
        source.execute("alter table films add title text")
    source.execute("create temporary table passing (id int); create view seen as select 1 as one")
    source.execute("create index on films (id); create unlogged table scratch (id int)")
    source.execute("create table parts (id int) partition by range (id)")
    source.execute("create table part_1 partition of parts default")
    found = source.execute("select table_name from headwater.definitions order by id").fetchall()
    assert found == [("films",), ("parts",)]


def test_a_shape_that_came_and_went_changes_the_stamp(dsn: str, source: Connection) -> None:
    source.execute("create table films (id int primary key)")
    watch = CatalogWatch(dsn)
    first = watch.check([FILMS]).stamps
    assert watch.check([FILMS]).stamps == first
    source.execute("alter table films add passing int; alter table films drop passing")
    assert watch.check([FILMS]).stamps != first
    watch.close()


def test_whoever_changes_a_table_is_not_held_up_by_its_note(dsn: str, source: Connection) -> None:
    source.execute("create role app_owner; grant create, usage on schema public to app_owner")
    try:
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("set role app_owner")
            other.execute("create table theirs (id int primary key)")  # may not write the records
            source.execute("alter table headwater.definitions rename to elsewhere")
            other.execute("alter table theirs add title text")  # not recorded: warns
        source.execute("alter table headwater.elsewhere rename to definitions")
        assert len(recorded_contracts(source, "public", "theirs", LOG_START)) == 1
    finally:
        source.execute("drop owned by app_owner; drop role app_owner")


def test_the_notes_are_told_as_right_until_their_function_is_another(source: Connection) -> None:
    notes = read_notes(source, ROLE)
    assert notes.is_right and notes.may_make
    assert not replace(notes, digest="of an earlier release").is_right
    source.execute("alter event trigger headwater_definitions disable")
    assert not read_notes(source, ROLE).is_right
    source.execute("drop schema headwater cascade")
    assert read_notes(source, ROLE) == Notes(may_make=True)
    assert recorded_contracts(source, *FILMS, LOG_START) == []

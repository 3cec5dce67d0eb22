"""Contracts and canonical texts from a real catalog."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from spark_streaming.contract.canonical import SESSION_SETTINGS, canonical_row, source_select
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.source_catalog import list_tables, read_contract

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def source(source: Connection) -> Connection:
    """A connection to an empty database, with settings that a contract must not depend on."""
    source.execute(
        "set TimeZone = 'Asia/Tokyo'; set DateStyle = 'German'; set bytea_output = 'escape'"
    )
    return source


def _contract(source: Connection, table: str, schema: str = "public") -> Contract:
    contract = read_contract(source, schema, table)
    assert contract is not None
    return contract


def test_everyday_types_have_their_kinds(source: Connection) -> None:
    source.execute(
        "create domain price as numeric(12,3); create type mood as enum ('sad', 'happy');"
        "create table films (id bigint primary key, a numeric(10,2)[], p price, m mood[],"
        " free numeric, wide numeric(50,3), grid int[][], span interval, nets inet[],"
        " at timestamptz(3), code char(5))"
    )
    columns = _contract(source, "films").by_name
    kinds = {name: (c.kind, c.element, c.precision, c.scale) for name, c in columns.items()}
    as_text = ("text_as_is", None, None, None)
    assert kinds == {
        "id": ("int64", None, None, None),
        "a": ("array", "decimal", 10, 2),
        "p": ("decimal", None, 12, 3),
        "m": ("array", "enum", None, None),
        "free": as_text,
        "wide": as_text,
        "grid": as_text,
        "span": as_text,
        "nets": as_text,
        "at": ("timestamptz", None, None, None),
        "code": ("text", None, None, None),
    }
    assert not columns["id"].nullable
    assert columns["id"].toastable is False
    assert columns["free"].toastable is True


def test_key_is_in_the_order_of_the_primary_key(source: Connection) -> None:
    source.execute("create table films (a int, b text, c int, primary key (c, b))")
    assert _contract(source, "films").key == ("c", "b")


def test_key_is_the_identity_index_where_there_is_one(source: Connection) -> None:
    source.execute(
        "create table films (id int primary key, code text not null unique);"
        "alter table films replica identity using index films_code_key"
    )
    contract = _contract(source, "films")
    assert (contract.key, contract.replica_identity) == (("code",), "index")


def test_deferrable_primary_key_is_no_key(source: Connection) -> None:
    source.execute("create table films (id int primary key deferrable)")
    contract = _contract(source, "films")
    assert contract.is_keyless
    assert "has no key" in (contract.refusal or "")


def test_table_with_full_identity_and_no_key_is_a_bag(source: Connection) -> None:
    source.execute("create table log (line text); alter table log replica identity full")
    contract = _contract(source, "log")
    assert (contract.is_keyless, contract.refusal) == (True, None)


def test_default_of_an_added_column_is_read_in_one_form_whatever_the_settings(
    source: Connection,
) -> None:
    source.execute(
        "create table films (id int primary key); insert into films values (1);"
        "alter table films add at timestamptz default '2026-01-01 00:00:00+00',"
        " add tags text[] default '{\"a,b\"}', add raw bytea default '\\x00ff'"
    )
    columns = _contract(source, "films").by_name
    assert columns["at"].missing_value == "2026-01-01 00:00:00+00"
    assert columns["tags"].missing_value == '{"a,b"}'
    assert columns["raw"].missing_value == "\\x00ff"
    assert columns["id"].missing_value is None


def test_default_of_a_column_added_to_a_partitioned_table_is_read_from_its_parts(
    source: Connection,
) -> None:
    source.execute(
        "create table sales (id int primary key) partition by range (id);"
        "create table sales_1 partition of sales default; insert into sales values (1);"
        "alter table sales add price numeric(10,2) default 1.50"
    )
    assert _contract(source, "sales").by_name["price"].missing_value == "1.50"


def test_generated_column_is_left_out(source: Connection) -> None:
    source.execute(
        "create table films (id int primary key, twice int generated always as (id * 2) stored)"
    )
    contract = _contract(source, "films")
    assert (list(contract.by_name), contract.left_out) == (["id"], ("twice",))


def test_table_is_found_by_its_topics_name(source: Connection) -> None:
    source.execute('create table "odd näme" (id int primary key, "a b" int)')
    contract = _contract(source, "odd_n_me")
    assert contract.table == "odd näme"
    assert contract.by_name["a_b"].source_name == "a b"
    assert read_contract(source, "public", "nowhere") is None


def test_tables_are_listed_without_partitions_and_what_is_not_logged(source: Connection) -> None:
    source.execute(
        "create schema headwater; create table headwater.heartbeat (id int);"
        "create table parts (id int) partition by range (id);"
        "create table part_1 partition of parts for values from (0) to (10);"
        "create unlogged table scratch (id int); create temporary table passing (id int);"
        "create view seen as select 1; create schema sales; create table sales.orders (id int)"
    )
    assert list_tables(source) == [("public", "parts"), ("sales", "orders")]


def test_source_and_silver_rows_have_the_same_canonical_texts(source: Connection) -> None:
    source.execute(
        "create table films (id int primary key, d numeric(10,2), f4 real, f8 float8, b bool,"
        " x bytea, day date, t time, ts timestamp, tz timestamptz, c char(5), fs real[],"
        " tags text[], bs bool[], ds date[]);"
        "insert into films values (1, 1.5, 1.1, 'NaN', true, '\\x00ff', '2026-01-02',"
        " '24:00', '2026-01-02 03:04:05.120', '2026-01-02 03:04:05+00', 'ab', '{1.1,NULL,NaN}',"
        " '{\"a,b\",NULL,null,\"NULL\",\" \"}', '{t,f}', '{2026-01-02}'); insert into films (id) values (2)"
    )
    contract = _contract(source, "films")
    for setting in SESSION_SETTINGS:
        source.execute(setting.encode())
    found = {row[0]: row for row in source.execute(source_select(contract).encode())}
    utc = datetime.timezone.utc
    four_bytes = 1.10000002384185791015625
    silver = [
        1,
        Decimal("1.50"),
        four_bytes,
        float("nan"),
        True,
        b"\x00\xff",
        datetime.date(2026, 1, 2),
        "24:00:00",
        datetime.datetime(2026, 1, 2, 3, 4, 5, 120000),
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=utc),
        "ab   ",
        [four_bytes, None, float("nan")],
        ["a,b", None, None, "NULL", " "],
        [True, False],
        [datetime.date(2026, 1, 2)],
    ]
    assert found["1"] == canonical_row(contract, silver)
    assert found["2"] == canonical_row(contract, [2] + [None] * 14)

"""Tables whose names collide or nearly collide, with the real Debezium: which are captured and which are left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from spark_streaming.contract.names import topic_of
from tests.support.events import events
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

Source = psycopg.Connection[tuple[Any, ...]]
Name = tuple[str, str]

SERVICES = ("postgres", "kafka", "s3", "connect", "connectors", "capture")
WITHIN_S = 150.0
# In the order of their creation: the first of two that collide is captured.
CAPTURED: list[Name] = [
    ("public", "parcels"),
    ("Sales", "t"),
    ("public", "a_b"),
    ("public", "a__b"),
    ("x", "t"),
    ("s", "e_t"),
    ("public", "t_1"),  # `_` matches any character when the driver asks for columns
    ("public", "tx1"),
    ("public", "smile\N{GRINNING FACE}"),  # two characters in Java
    ("public", "ä"),
]
LEFT_OUT: dict[Name, str] = {
    ("public", "Parcels"): "silver table with public.parcels",
    ("sales", "t"): "silver table with Sales.t",
    ("public", "a.b"): "Kafka topic (where `.` and `_` are one) with public.a_b",
    ("public", "a  b"): "Kafka topic (where `.` and `_` are one) with public.a__b",
    ("public", "x__t"): "silver table with x.t",
    ("s_e", "t"): "Kafka topic (where `.` and `_` are one) with s.e_t",
    ("public", "ö"): "Kafka topic (where `.` and `_` are one) with public.ä",
}


def make(source: Source, name: Name, rows: int = 1) -> None:
    """Create a table of this name with a key and a nullable column that is NULL in its rows."""
    source.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name[0])))
    null = sql.SQL("NOT NULL DEFAULT 7" if name[1] == "tx1" else "")
    source.execute(
        sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, n int {})").format(
            sql.Identifier(*name), null
        )
    )
    for number in range(rows):
        insert(source, name, number)


def insert(source: Source, name: Name, number: int) -> None:
    value = number if name[1] == "tx1" else None
    statement = sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(sql.Identifier(*name))
    source.execute(statement, [number, value])


def rows(stack: Stack, name: Name) -> list[tuple[tuple[str, str], int, int | None]]:
    """The events of the topic of a table's name, in order: (the event's table, id, n)."""
    prefix = stack.settings.topic_prefix
    found = events(stack, topic_of(prefix, *name).removeprefix(f"{prefix}."))
    return [
        ((e["source"]["schema"], e["source"]["table"]), e["after"]["id"], e["after"]["n"])
        for e in found
    ]


def expected(name: Name, numbers: int) -> list[tuple[Name, int, int | None]]:
    return [(name, i, i if name[1] == "tx1" else None) for i in range(numbers)]


def await_rows(stack: Stack, name: Name, numbers: int) -> None:
    until(
        lambda: rows(stack, name),
        lambda seen: seen == expected(name, numbers),
        within_s=WITHIN_S,
        what=f"{numbers} row(s) of {name}, and of no other table, in its topic",
    )


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        with stack.source() as source:
            for name in (*CAPTURED, *LEFT_OUT):
                make(source, name)
        stack.up("--only", *SERVICES)
        yield stack


@pytest.fixture
def source(stack: Stack) -> Iterator[Source]:
    with stack.source() as connection:
        yield connection


def published(source: Source) -> set[Name]:
    found = source.execute(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE schemaname <> 'headwater'"
    )
    return {(str(schema), str(table)) for schema, table in found}


def test_of_two_tables_whose_names_meet_one_is_captured_and_the_other_is_left_out(
    stack: Stack, source: Source
) -> None:
    assert published(source) >= set(CAPTURED)
    assert not published(source) & LEFT_OUT.keys()
    for name in CAPTURED:
        await_rows(stack, name, 1)
        insert(source, name, 1)
    for name in CAPTURED:
        await_rows(stack, name, 2)


def test_preflight_and_status_name_the_table_that_is_left_out_and_the_other_one(
    stack: Stack,
) -> None:
    by_check = stack.checks()
    told = stack.run("status").stderr
    for name, why in LEFT_OUT.items():
        row = by_check[f"table {'.'.join(name)}"]
        assert (row["status"], why in row["observed"]) == ("left out", True), row
        assert f"{'.'.join(name)} is left out: it would share its {why}" in told


def test_a_table_whose_name_meets_a_captured_one_stops_nobody_while_the_stack_runs(
    stack: Stack, source: Source
) -> None:
    make(source, ("public", "PARCELS"), rows=2)
    make(source, ("s.e", "t"), rows=2)
    # Published by hand, with rows: Kafka would refuse its topic, and the connector would stop.
    source.execute('ALTER PUBLICATION headwater ADD TABLE "s.e"."t"')
    insert(source, ("s.e", "t"), 2)
    make(source, ("public", "later"), rows=1)
    await_rows(stack, ("public", "later"), 1)
    insert(source, ("public", "parcels"), 2)
    insert(source, ("s", "e_t"), 2)
    await_rows(stack, ("public", "parcels"), 3)
    await_rows(stack, ("s", "e_t"), 3)
    assert not published(source) & {("public", "PARCELS"), ("s.e", "t"), *LEFT_OUT}

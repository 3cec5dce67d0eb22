"""The causes of a resync, on a real server: requests, and partitions that were added or removed without events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from app.capture.resync import READING, change, progress, request
from app.capture.resync_end import log_end, writers_of
from app.connectors.capture_record import DONE, names_taken, record
from app.connectors.partitions import Partitions, note
from app.source.source_tables import Names, SourceTable, source_tables
from tests.support.stack import Stack
from tests.support.waiting import until

Connection = psycopg.Connection[tuple[Any, ...]]
NAMES = Names()


@pytest.fixture
def source(source: Connection) -> Connection:
    """A database with a signal table and the partitioned table `parted`: p1 has rows, p2 none."""
    source.execute("CREATE SCHEMA headwater")
    source.execute(
        "CREATE TABLE headwater.signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL,"
        " data text)"
    )
    source.execute("CREATE TABLE parted (id int) PARTITION BY RANGE (id)")
    for part in ("p1", "p2"):
        source.execute(_part(part))
    source.execute("INSERT INTO parted VALUES (11)")
    return source


def _part(name: str) -> str:
    number = int(name[1:]) * 10
    return f"CREATE TABLE {name} PARTITION OF parted FOR VALUES FROM ({number}) TO ({number + 10})"


def _attach(name: str) -> str:
    number = int(name[1:]) * 10
    return (
        f"ALTER TABLE parted ATTACH PARTITION {name} FOR VALUES FROM ({number}) TO ({number + 10})"
    )


def _parted(source: Connection) -> SourceTable:
    return next(t for t in source_tables(source, "headwater", "none") if t.name == "parted")


class Looker:
    """Checks `parted` with a fixed clock, and records the requested resyncs."""

    def __init__(self, source: Connection, now: float = 0.0) -> None:
        self.asked: list[str] = []
        self.now = now
        self._source = source
        self._partitions = Partitions(NAMES, self._ask, lambda: self.now)

    def _ask(self, connection: psycopg.Connection[Any], table: SourceTable, reason: str) -> None:
        self.asked.append(reason)

    def look(self) -> list[str]:
        """Check once. Returns: the requested resyncs."""
        self.asked = []
        self._partitions.step(self._source, [_parted(self._source)])
        return self.asked


@pytest.mark.parametrize(
    "statements",
    [
        [_part("p3")],
        [_part("p3"), "INSERT INTO parted VALUES (31)"],
        ["BEGIN", _part("p3"), "INSERT INTO parted VALUES (31)", "COMMIT"],
        ["CREATE TABLE p3 (id int)", _attach("p3")],
        ["DROP TABLE p2"],
        ["ALTER TABLE parted DETACH PARTITION p2"],
        ["TRUNCATE p2"],
        ["INSERT INTO parted VALUES (12), (21)", "DELETE FROM parted WHERE id = 11"],
        ["VACUUM p1", "REINDEX TABLE p1", "ANALYZE parted"],
        [f"{_part('p3')} PARTITION BY LIST (id)", "CREATE TABLE p3_1 PARTITION OF p3 FOR VALUES IN (31)",
         "INSERT INTO parted VALUES (31)"],
    ],
)  # fmt: skip
def test_the_usual_changes_of_partitions_ask_for_nothing(
    source: Connection, statements: list[str]
) -> None:
    looker = Looker(source)
    assert looker.look() == [], "what is seen first is only recorded"
    for statement in statements:
        source.execute(statement)
    assert looker.look() == []
    assert looker.look() == []


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["DROP TABLE p1"], "public.p1 was dropped or detached"),
        (["ALTER TABLE parted DETACH PARTITION p1"], "public.p1 was dropped or detached"),
        (["TRUNCATE p1"], "public.p1 was truncated"),
        (["INSERT INTO p2 VALUES (21)", "ALTER TABLE parted DETACH PARTITION p2"], "public.p2 was dropped"),
        (["CREATE TABLE p3 (id int)", "INSERT INTO p3 VALUES (31)", _attach("p3")], "public.p3 was attached"),
        (["BEGIN", "CREATE TABLE p3 (id int)", "INSERT INTO p3 VALUES (31)", _attach("p3"), "COMMIT"],
         "public.p3 was attached"),
        (["CREATE TABLE p3 (id int) PARTITION BY LIST (id)",
          "CREATE TABLE p3_1 PARTITION OF p3 FOR VALUES IN (31)", "INSERT INTO p3 VALUES (31)", _attach("p3")],
         "public.p3_1 was attached"),
        (["BEGIN", "CREATE TABLE p3 (id int) PARTITION BY LIST (id)",
          "CREATE TABLE p3_1 PARTITION OF p3 FOR VALUES IN (31)", "INSERT INTO p3 VALUES (31)", _attach("p3"),
          "COMMIT"], "public.p3_1 was attached"),
    ],
)  # fmt: skip
def test_rows_that_come_or_go_with_a_partition_are_asked_for_once(
    source: Connection, statements: list[str], told: str
) -> None:
    looker = Looker(source)
    looker.look()
    for statement in statements:
        source.execute(statement)
    [reason] = looker.look()
    assert told in reason
    assert looker.look() == []
    assert Looker(source).look() == [], "it is recorded for whoever looks next"


def test_what_happened_while_nobody_looked_is_found_from_what_is_recorded(
    source: Connection,
) -> None:
    note(source, NAMES, [_parted(source)])
    source.execute("INSERT INTO parted VALUES (21)")
    source.execute("DROP TABLE p2")
    [reason] = Looker(source).look()
    assert "public.p2 was dropped or detached" in reason, "it may have had rows since"


def test_a_request_stands_for_those_that_come_before_it_is_begun_and_for_none_after(
    source: Connection,
) -> None:
    table = _parted(source)
    first = request(source, NAMES, [table], reason="one", incident="i1")
    assert request(source, NAMES, [table], reason="two", incident="i2") == first == {table.oid: 1}
    [one] = progress(source, NAMES)
    assert (one.state, one.reason, one.incidents) == ("waiting", "one", ("i1", "i2"))
    change(
        source,
        NAMES,
        table.oid,
        lambda known: replace(known or one, state=READING, reading=(known or one).asked),
    )
    assert request(source, NAMES, [table], reason="three") == {table.oid: 2}
    assert request(source, NAMES, [table], reason="four") == {table.oid: 2}
    [one] = progress(source, NAMES)
    assert (one.state, one.asked, one.finished) == ("reading", 2, 0)


def test_who_wrote_before_a_position_is_told_until_its_transaction_ends(
    source_server: Stack, source: Connection
) -> None:
    table = _parted(source)
    dsn = source.info.dsn + f" password={source.info.password}"
    with psycopg.connect(dsn) as writer:
        writer.execute("INSERT INTO parted VALUES (13)")
        log_end(source)
        before = writers_of(source, table)
        assert len(before) == 1
        writer.commit()
        until(
            lambda: before & writers_of(source, table),
            lambda left: left == set(),
            within_s=10,
            what="nobody of those who wrote before",
        )
        writer.execute("SELECT FROM parted")
        assert writers_of(source, table) == set(), "readers are none"


def test_the_record_tells_the_name_that_a_table_had(source: Connection) -> None:
    record(source, NAMES, [_parted(source)], DONE)
    source.execute("ALTER TABLE parted RENAME TO other")
    [name] = names_taken(source, NAMES).values()
    assert name == "public.parted"

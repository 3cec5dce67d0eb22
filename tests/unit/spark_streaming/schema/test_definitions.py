"""Which of the definitions that the source recorded is used to read a table's events."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, cast

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.contract_versions import Boundary, extended, split_at
from spark_streaming.events.event import RawEvent
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.definitions import (
    Pending,
    after_known,
    queue,
    since_first,
    without_refused,
)
from spark_streaming.schema.evolver import Evolver
from spark_streaming.schema.topic import Topic
from tests.unit.debezium_events import event
from tests.unit.evolving_source import TABLE, EvolvingSource, ModelCatalog

ID = Column("id", "integer", "int32", nullable=False, base_type="int4", attnum=1)


def named(name: str, number: int = 2) -> Column:
    return Column(name, "text", "text", base_type="text", attnum=number)


def noted(lsn: int, *columns: Column, **other: Any) -> Contract:
    contract = Contract("public", "films", (ID, *columns), ("id",), oid=100, **other)
    return replace(contract, begins_at_lsn=Lsn(lsn), noted_lsn=Lsn(lsn))


A, B, C = noted(100, named("a")), noted(200, named("b")), noted(300, named("c"))


def at(lsn: int, op: str = "c", xid: int = 1, **row: Any) -> RawEvent:
    return event(op, lsn=lsn, offset=lsn, after={"id": 1, **row}, txId=xid)


def test_each_definition_follows_the_one_before_at_its_own_place_in_the_log() -> None:
    pendings = list[Pending]()
    queue(pendings, A, [B, B, C, C], after=Lsn(90), by=Lsn(400))
    assert [[c.kind for c in p.changes] for p in pendings] == [["rename_column"]] * 2
    assert [p.contract.version for p in pendings] == [2, 3]
    older, rest = split_at([at(n, a="") for n in (199, 200, 299, 300)], boundary(pendings[0]))
    middle, newer = split_at(rest, boundary(pendings[1]))
    assert [[e.offset for e in part] for part in (older, middle, newer)] == [
        [199],
        [200, 299],
        [300],
    ]


def test_a_shape_that_came_and_went_between_two_looks_is_followed_both_ways() -> None:
    pendings = list[Pending]()
    back = noted(300, named("a"))
    queue(pendings, A, [B, back, back], after=Lsn(90), by=Lsn(400))
    assert [p.contract.columns[1].name for p in pendings] == ["b", "a"]


def test_a_transaction_that_changes_a_table_and_its_rows_is_split_at_the_change() -> None:
    border = Boundary.between(A, replace(B, version=2, xid=50))
    events = [at(150, xid=50, a="1"), at(250, xid=50, b="2")]
    assert [[e.offset for e in part] for part in split_at(events, border)] == [[150], [250]]


def test_rows_that_a_snapshot_read_ahead_of_the_log_draw_no_streamed_event_with_them() -> None:
    border = Boundary.between(
        A, replace(B, version=2, valid_after_lsn=Lsn(90), valid_from_lsn=Lsn(400))
    )
    events = [
        event("r", lsn=120, offset=1, after={"id": 1, "b": ""}),
        event("c", lsn=150, offset=2, after={"id": 2, "a": ""}),
        event("c", lsn=250, offset=3, after={"id": 3, "b": ""}),
    ]
    assert [[e.offset for e in part] for part in split_at(events, border)] == [[2], [1, 3]]


def test_a_snapshots_row_that_fits_no_older_type_is_ahead_of_an_exact_border() -> None:
    border = Boundary.between(
        A, replace(B, version=2, valid_after_lsn=Lsn(150), valid_from_lsn=Lsn(400))
    )
    row = event("r", lsn=120, offset=1, after={"id": 1, "a": ""})
    streamed = event("c", lsn=150, offset=2, after={"id": 2, "a": ""})
    assert split_at([row, streamed], border) == ([row, streamed], [])
    assert split_at([row, streamed], extended(border, [row, streamed])) == ([streamed], [row])


def test_a_new_table_begins_as_it_was_at_its_first_event() -> None:
    found = replace(C, begins_at_lsn=None)
    assert since_first([A, B, C], found, [at(250), at(210)]) == [B, C, found]
    assert since_first([A, B, C], found, [at(50)]) == [A, B, C, found]
    assert since_first([A, B, C], found, []) == [found]
    assert since_first([], found, [at(250)]) == [found]
    before = replace(A, oid=99)
    # It was dropped and made again meanwhile: its rows are removed where the newer one begins.
    assert since_first([before, C], found, [at(150)]) == [before, C, found]


def test_what_repairs_a_definition_that_nobody_can_follow_takes_its_place() -> None:
    keyless = replace(B, key=())
    assert keyless.refusal
    other = replace(C, key=("c",))
    assert without_refused([keyless, other], other) == [replace(other, begins_at_lsn=Lsn(200))]
    assert without_refused([keyless], keyless) == [keyless]


def boundary(pending: Pending) -> Boundary:
    assert pending.boundary is not None
    return pending.boundary


def test_a_column_that_is_text_from_now_on_is_a_version_of_its_own() -> None:
    source = EvolvingSource(Random(1), ("nothing",))
    day = Column("day", "date", "date", base_type="date", attnum=9)
    source.columns.append(day)
    source.alter("nothing")
    catalog = ModelCatalog(source)
    first = source.states[-1][1]
    topic = Topic(source.topic, *TABLE, contract=first)
    evolver = Evolver(catalog, cast(CatalogWatch, catalog))
    evolver.check([topic])
    assert topic.pendings == []
    catalog.texts = lambda schema, table: frozenset({"day"})
    evolver.check([topic])
    [pending] = topic.pendings
    assert (pending.contract.version, pending.contract.by_name["day"].kind) == (2, "text_as_is")
    assert evolver.how(topic) == "evolve"
    evolver.check([topic])
    assert len(topic.pendings) == 1


def test_what_a_source_that_was_set_back_is_like_begins_behind_all_that_was_captured_of_it() -> (
    None
):
    captured = replace(B, valid_from_lsn=Lsn(900))
    restored = replace(A, begins_at_lsn=None)
    found = after_known(captured, [], restored, by=Lsn(400))
    pendings = list[Pending]()
    queue(pendings, captured, [found], after=Lsn(300), by=Lsn(400))
    [pending] = pendings
    # Earlier events belong to the version of their time, wherever the restored source is now.
    before, later = split_at([at(n, b="") for n in (401, 900)] + [at(901, a="")], boundary(pending))
    assert [[e.offset for e in part] for part in (before, later)] == [[401, 900], [901]]
    assert after_known(captured, [], restored, by=Lsn(900)) is restored
    assert after_known(captured, [A], restored, by=Lsn(400)) is restored

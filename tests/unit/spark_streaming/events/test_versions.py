"""Each event is read by the contract version under which it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.evolution import next_version
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.contract_versions import Boundary, key_changed, split_at
from spark_streaming.events.envelope import decode
from spark_streaming.events.position import HighWater
from tests.unit.debezium_events import event

ID = Column("id", "integer", "int32", nullable=False, base_type="int4", attnum=1)
SIZE = Column("size", "real", "float4", base_type="float4", attnum=2)
SIZE = replace(SIZE, kind="float32")
FILMS = Contract("public", "films", (ID, SIZE), ("id",), oid=100)
DOUBLE = replace(SIZE, pg_type="double precision", kind="float64", base_type="float8")
WIDER = replace(
    next_version(FILMS, replace(FILMS, columns=(ID, DOUBLE))),
    valid_after_lsn=Lsn(100),
    valid_from_lsn=Lsn(200),
    xid=50,
)
BORDER = Boundary.between(FILMS, WIDER)


def document(lsn: int, xid: int | None = None, **after: Any) -> dict[str, Any]:
    return {"after": after or {"id": 1, "size": 0.1}, "source": {"lsn": lsn, "txId": xid}}


@pytest.mark.parametrize(
    ("lsn", "xid", "passed"),
    [
        (100, 49, False),
        (100, 50, True),  # in the transaction of the change
        (201, 3, True),
        (150, 49, False),
        (150, 50, True),
        (150, 51, True),
        (150, 2**32 - 5, False),  # before the counter wrapped
        (150, None, True),
    ],
)
def test_a_type_without_a_trace_is_told_by_position_and_transaction(
    lsn: int, xid: int | None, passed: bool
) -> None:
    assert BORDER.is_passed(document(lsn, xid)) is passed


def test_columns_tell_before_positions_do() -> None:
    renamed = replace(SIZE, name="width")
    newer = replace(WIDER, columns=(ID, renamed))
    border = Boundary.between(FILMS, newer)
    assert border.is_passed(document(10, 1, id=1, width=2))
    assert not border.is_passed(document(200, 999, id=1, size=2))
    assert border.is_passed(document(201, 1, id=1, size=2)), "a later change brought it back"
    assert border.is_passed(document(10, 1, id=1, size=2), {"code": 3}), "another key"
    assert not border.is_passed(document(150, 1, id=1, size=2), {"id": 3})


def test_a_partition_stays_behind_the_border_once_it_was_passed() -> None:
    row = {"id": 1, "size": 1.5}
    events = [
        event("c", lsn=lsn, offset=offset, partition=partition, after=row, txId=xid)
        for offset, (partition, lsn, xid) in enumerate(
            [(0, 90, 40), (0, 150, 51), (0, 151, 45), (1, 152, 45)]
        )
    ]
    older, newer = split_at(events, BORDER)
    assert [e.offset for e in older] == [0, 3]
    assert [e.offset for e in newer] == [1, 2]


def test_a_value_that_fits_no_older_type_is_behind_the_border() -> None:
    events = [
        event("c", lsn=150, offset=offset, after={"id": 1, "size": 1.5}, txId=45)
        for offset in range(4)
    ]
    _, newer = split_at(events, replace(BORDER, newer_from={0: 2}))
    assert [e.offset for e in newer] == [2, 3]


def test_an_old_events_row_reads_as_the_cast_of_the_table_made_it() -> None:
    narrow = replace(SIZE, pg_type="real[]", kind="array", element="float32")
    wide = replace(narrow, pg_type="double precision[]", element="float64")
    newer = next_version(replace(FILMS, columns=(ID, narrow)), replace(FILMS, columns=(ID, wide)))
    newer = replace(newer, valid_after_lsn=Lsn(100), valid_from_lsn=Lsn(200), xid=50)
    sizes = "{0.1,NULL,NaN}"
    late = event("c", lsn=90, key={"id": 1}, after={"id": 1, "size": sizes}, txId=40)
    new = event("c", lsn=300, key={"id": 2}, after={"id": 2, "size": "{0.1}"}, txId=60)
    decoded = decode([late, new], newer, HighWater())
    assert decoded.rejects == []
    # Postgres' values of 0.1::real::double precision, and of 0.1::double precision.
    [[first, none, nan], [double]] = decoded.changes.images["size"].to_pylist()
    assert (first, none, nan != nan, double) == (0.10000000149011612, None, True, 0.1)


def test_a_real_reads_right_whichever_version_its_event_is_taken_for() -> None:
    exact = 0.10000000149011612  # the connector's value for 0.1::real
    events = [
        event("c", lsn=lsn, key={"id": lsn}, after={"id": lsn, "size": exact}, txId=45)
        for lsn in (90, 150, 300)
    ]
    assert decode(events, WIDER, HighWater()).changes.images["size"].to_pylist() == [exact] * 3
    narrow = decode(events, FILMS, HighWater()).changes.images["size"]
    assert narrow.cast("double").to_pylist() == [exact] * 3


def test_an_old_events_columns_and_key_get_their_newer_names() -> None:
    number = replace(ID, name="number")
    newer = replace(FILMS, columns=(number, replace(SIZE, name="width")), key=("number",))
    contract = replace(
        next_version(FILMS, newer), valid_after_lsn=Lsn(100), valid_from_lsn=Lsn(200)
    )
    late = [
        event("c", lsn=90, key={"id": 1}, after={"id": 1, "size": 0.5}),
        event("d", lsn=91, key={"id": 2}, before={"id": 2, "size": None}),
    ]
    decoded = decode(late, contract, HighWater())
    assert (decoded.rejects, decoded.unknown_columns) == ([], set())
    assert decoded.changes.images.to_pylist() == [
        {"number": 1, "width": 0.5},
        {"number": 2, "width": None},
    ]


def test_the_row_of_a_table_that_was_dropped_is_no_row_of_its_successor() -> None:
    successor = next_version(FILMS, replace(FILMS, oid=200))
    successor = replace(successor, valid_after_lsn=Lsn(100), valid_from_lsn=Lsn(200), xid=50)
    late = event("c", lsn=90, key={"id": 1}, after={"id": 1, "size": 0.5}, txId=40)
    gone = event("d", lsn=91, key={"id": 2}, before={"id": 2, "size": 0.0}, txId=41)
    new = event("c", lsn=300, key={"id": 1}, after={"id": 1, "size": 0.5}, txId=60)
    decoded = decode([late, gone, new], successor, HighWater())
    assert (decoded.rejects, decoded.skipped) == ([], 2)
    assert [change.lsn for change in decoded.changes.changes] == [300]


def test_a_key_that_changed_is_told_and_a_column_of_it_that_was_renamed_is_not() -> None:
    number = replace(ID, name="number")
    renamed = replace(FILMS, columns=(number, SIZE), key=("number",))
    assert not key_changed(next_version(FILMS, renamed))
    assert key_changed(next_version(FILMS, replace(FILMS, key=("size",))))
    assert not key_changed(next_version(FILMS, replace(FILMS, key=("size",), oid=200)))


def test_a_kept_contract_is_read_back_without_the_versions_before_it() -> None:
    kept = json.loads(WIDER.to_json())
    assert "earlier" not in kept
    assert (kept["valid_after_lsn"], kept["valid_from_lsn"]) == (100, 200)
    assert Contract.from_json(WIDER.to_json()) == WIDER

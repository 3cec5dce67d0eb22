"""Streamed rows with wrong column names from the connector are read correctly, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.evolution import next_version
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import Decoded
from spark_streaming.events.position import HighWater
from tests.unit.debezium_events import event
from tests.unit.model import fold_batches

ID = Column("id", "integer", "int32", nullable=False, base_type="int4", attnum=1)
A = Column("a", "text", "text", base_type="text", attnum=2)
B = Column("b", "text", "text", base_type="text", attnum=3)
C = Column("c", "text", "text", base_type="text", attnum=4)
COUNT = Column("n", "integer", "int32", base_type="int4", attnum=4)
MOOD = Column("mood", "mood", "enum", base_type="mood", attnum=5, labels=("sad", "calm"))
NOTED_AT, CHANGED_AT = 50, 200
GENERATED: dict[str, Any] = {"left_out": ("twice",), "left_out_at": ((2, "integer", True),)}


def table(*columns: Column, **more: Any) -> Contract:
    """A table whose source records its definitions; all of them were recorded at NOTED_AT."""
    return Contract("public", "t", columns, ("id",), oid=9, noted_lsn=Lsn(NOTED_AT), **more)


def read(contract: Contract, *rows: dict[str, Any], later: tuple[Contract, ...] = ()) -> Decoded:
    """Rows that were inserted before CHANGED_AT, where `later` begins."""
    begins: dict[str, Any] = {
        "begins_at_lsn": CHANGED_AT,
        "valid_from_lsn": CHANGED_AT,
        "noted_lsn": CHANGED_AT,
    }
    later = tuple(replace(each, **begins) for each in later)
    events = [event("c", lsn=100 + n, key={"id": n}, after=row) for n, row in enumerate(rows)]
    return decode(events, replace(contract, later_versions=later), HighWater())


def rows_of(decoded: Decoded) -> list[dict[str, Any]]:
    assert [reject.reason for reject in decoded.rejects] == []
    return decoded.changes.images.to_pylist()


def reason_of(decoded: Decoded) -> str:
    [reject] = decoded.rejects
    assert reject.rule == "columns-ahead"
    return reject.reason


def test_a_renamed_columns_value_is_not_taken_for_null() -> None:
    was = table(ID, A)
    new = next_version(was, table(ID, replace(A, name="z")))
    assert rows_of(read(was, {"id": 1, "z": "x"}, later=(new,))) == [{"id": 1, "a": "x"}]
    swapped = next_version(was, table(ID, replace(A, name="b"), replace(B, name="a")))
    assert rows_of(read(table(ID, A, B), {"id": 1, "b": "a's", "a": "b's"}, later=(swapped,))) == [
        {"id": 1, "a": "a's", "b": "b's"}
    ]


def test_a_value_is_not_taken_for_its_neighbours_where_a_column_went_and_another_came() -> None:
    was = table(ID, A, B)
    new = next_version(was, table(ID, B, C))
    row = {"id": 1, "b": "a's", "c": "b's"}
    assert rows_of(read(was, row, later=(new,))) == [{"id": 1, "a": "a's", "b": "b's"}]
    # The same after silver has followed: a dropped column keeps its value.
    event_rows = decode(
        [event("c", lsn=100, key={"id": 1}, after=row)],
        replace(new, begins_at_lsn=Lsn(CHANGED_AT), valid_from_lsn=Lsn(CHANGED_AT)),
        HighWater(),
    )
    assert rows_of(event_rows) == [{"id": 1, "b": "b's", "c": None, "a": "a's"}]


def test_a_value_that_was_read_as_another_type_is_refused() -> None:
    was = table(ID, A, B)
    new = next_version(was, table(ID, B, COUNT))
    reason = reason_of(read(was, {"id": 1, "b": "a's", "n": 7}, later=(new,)))
    assert "the value of column b cannot be told" in reason
    assert rows_of(read(was, {"id": 1, "b": "a's", "n": None}, later=(new,)))[0]["b"] is None


def test_a_value_that_the_connector_may_have_made_up_for_null_is_refused() -> None:
    was = table(ID, A)
    new = next_version(was, table(ID, replace(A, name="z", nullable=False)))
    assert "column a cannot be told" in reason_of(read(was, {"id": 1, "z": ""}, later=(new,)))


def test_generated_columns_do_not_shift_the_values_behind_them() -> None:
    contract = table(ID, replace(A, attnum=3), replace(COUNT, attnum=4), **GENERATED)
    row = {"id": 1, "twice": 7, "a": None, "n": None}
    assert "column a" in reason_of(read(contract, row)), "an integer is not a text"
    contract = table(ID, replace(COUNT, attnum=3), **GENERATED)
    [found] = rows_of(read(contract, {"id": 1, "twice": 7, "n": None}))
    assert found == {"id": 1, "n": 7}
    # The same without the source's records, and if NULL replaces a missing value.
    contract = table(ID, replace(COUNT, attnum=3, nullable=False), **GENERATED)
    contract = replace(contract, noted_lsn=None)
    assert rows_of(read(contract, {"id": 1, "twice": 7, "n": 0})) == [{"id": 1, "n": 7}]


def test_with_a_label_that_is_new_values_go_by_their_names_and_lost_ones_are_refused() -> None:
    contract = table(ID, replace(COUNT, attnum=3), MOOD, **GENERATED)
    named = {"id": 1, "twice": None, "n": 7, "mood": "new"}
    assert rows_of(read(contract, named)) == [{"id": 1, "n": 7, "mood": "new"}]
    was = table(ID, A, MOOD)
    new = next_version(was, table(ID, replace(A, name="z"), MOOD))
    reason = reason_of(read(was, {"id": 1, "z": None, "mood": "new"}, later=(new,)))
    assert "column a cannot be told" in reason
    [found] = rows_of(read(was, {"id": 1, "z": "x", "mood": "calm"}, later=(new,)))
    assert found == {"id": 1, "a": "x", "mood": "calm"}


@pytest.mark.parametrize("noted", [True, False])
def test_a_row_of_some_columns_is_a_publications_and_read_by_its_names(noted: bool) -> None:
    contract = replace(table(ID, A, B), noted_lsn=Lsn(NOTED_AT) if noted else None)
    assert rows_of(read(contract, {"id": 1, "b": "x"})) == [{"id": 1, "a": None, "b": "x"}]


def test_names_that_no_known_definition_has_are_asked_about_before_they_are_refused() -> None:
    decoded = read(table(ID, A), {"id": 1, "z": "x"})
    assert "definition of the table (id, z)" in reason_of(decoded)
    assert decoded.unknown_columns == {"z"}


def test_a_definition_that_nobody_saw_costs_no_value_where_the_source_notes_none() -> None:
    contract = replace(table(ID, A, B), noted_lsn=None)
    reason = reason_of(read(contract, {"id": 1, "was_a": "x", "b": "y"}))
    assert "definition of the table (id, was_a, b)" in reason and "column a" in reason
    assert "column a, b" in reason_of(read(contract, {"id": 1, "was_a": "x"}))
    # The value of a column that was dropped or does not exist yet must not go to another column.
    rows = read(contract, {"id": 1, "a": "x", "b": "y", "gone": 7}, {"id": 2, "a": "x"})
    assert [row["a"] for row in rows_of(rows)] == ["x", "x"]
    # The key of a deleted row comes from its message.
    gone = event("d", lsn=100, key={"id": 1}, before={"id": 1, "was_a": "", "b": ""})
    assert [c.key for c in decode([gone], contract, HighWater()).changes.changes] == [1]


def test_a_deleted_rows_key_is_told_by_its_place() -> None:
    first, second = replace(A, attnum=1), replace(ID, attnum=2)
    was = table(first, second)
    new = next_version(was, table(second, replace(COUNT, attnum=3)))
    # Under the default replica identity only the key is from the row: its value is the second.
    before, key = {"id": 0, "n": 7}, {"id": 0}
    gone = event("d", lsn=100, key=key, before=before)
    begins = replace(
        new,
        begins_at_lsn=Lsn(CHANGED_AT),
        valid_from_lsn=Lsn(CHANGED_AT),
        noted_lsn=Lsn(CHANGED_AT),
    )
    decoded = decode([gone], replace(was, later_versions=(begins,)), HighWater())
    assert [change.key for change in decoded.changes.changes] == [7], decoded.rejects


def test_a_rows_order_is_not_looked_at_in_a_snapshot() -> None:
    row = event("r", lsn=100, key={"id": 1}, after={"a": "x", "id": 1, "b": None}, snapshot="true")
    assert rows_of(decode([row], table(ID, A, B), HighWater())) == [{"id": 1, "a": "x", "b": None}]


def test_a_key_change_that_batches_part_removes_the_old_row_where_it_was_named_ahead() -> None:
    was = table(ID, replace(A, toastable=True))
    new = next_version(was, table(ID, replace(A, name="z", toastable=True)))
    begins = replace(
        new,
        begins_at_lsn=Lsn(CHANGED_AT),
        valid_from_lsn=Lsn(CHANGED_AT),
        noted_lsn=Lsn(CHANGED_AT),
    )
    contract = replace(was, later_versions=(begins,))
    made = event("c", lsn=90, key={"id": 1}, after={"id": 1, "a": "x"}, commit=80)
    gone = event(
        "d",
        lsn=100,
        key={"id": 1},
        before={"id": 1, "z": ""},
        commit=90,
        headers={"newkey": {"id": 2}},
    )
    come = event(
        "c",
        lsn=100,
        key={"id": 2},
        after={"id": 2, "z": "x"},
        commit=90,
        order=2,
        offset=101,
        headers={"oldkey": {"id": 1}},
    )
    silver, rejects = fold_batches([[made], [gone], [come]], contract)
    assert rejects == []
    assert [(row["id"], row["a"]) for row in silver.rows] == [(2, "x")]

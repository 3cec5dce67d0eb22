from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import LSN_MAX, decode
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.fold.keyed import Folded, fold
from tests.unit.debezium_events import event
from tests.unit.model import BAG, KEYED

GONE = "__debezium_unavailable_value"


def _row(number: int, note: str = "n", big: str | None = "b") -> dict[str, Any]:
    return {"id": number, "note": note, "big": big}


def _fold(
    *events: RawEvent,
    contract: Contract = KEYED,
    silver: Mapping[tuple[Any, ...], Mapping[str, Any]] | None = None,
    present: set[tuple[Any, ...]] | None = None,
) -> Folded:
    decoded = decode(events, contract, HighWater())
    assert decoded.rejects == []
    rows = silver or {}
    return fold(
        decoded.changes,
        contract,
        lambda keys: {key: rows[key] for key in keys if key in rows},
        None if present is None else lambda keys: present & set(keys),
    )


def _rows(folded: Folded, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in folded.rows.to_pylist()]


def test_changes_of_a_row_become_its_last_one() -> None:
    folded = _fold(
        event("c", lsn=10, after=_row(1, "a")),
        event("u", lsn=20, after=_row(1, "b")),
        event("c", lsn=30, after=_row(2, "c")),
    )
    assert _rows(folded, "id", "note", "_op", "_lsn") == [(1, "b", "u", 20), (2, "c", "u", 30)]


def test_folded_rows_have_the_contracts_columns_and_their_own() -> None:
    folded = _fold(event("c", lsn=10, after=_row(1)))
    own = ["_lsn", "_committed_at", "_op", "_guard_lsn"]
    assert folded.rows.column_names == ["id", "note", "big", *own]
    [row] = folded.rows.to_pylist()
    assert row["_committed_at"].isoformat() == "2023-11-14T22:13:20.010000+00:00"
    assert row["_guard_lsn"] == LSN_MAX


def test_no_changes_fold_to_a_table_without_rows() -> None:
    folded = _fold()
    assert folded.rows.num_rows == 0
    assert folded.rows.schema.field("_committed_at").type.tz == "UTC"


def test_inserted_and_deleted_row_is_a_delete() -> None:
    folded = _fold(event("c", lsn=10, after=_row(1)), event("d", lsn=20, key={"id": 1}))
    assert _rows(folded, "id", "note", "_op") == [(1, None, "d")]


def test_deleted_and_inserted_row_is_an_upsert() -> None:
    folded = _fold(event("d", lsn=10, key={"id": 1}), event("c", lsn=20, after=_row(1, "new")))
    assert _rows(folded, "id", "note", "_op") == [(1, "new", "u")]


def test_streamed_change_beats_a_snapshot_row_of_a_higher_lsn() -> None:
    folded = _fold(
        event("r", lsn=100, offset=1, commit=None, order=None, after=_row(1, "old")),
        event("u", lsn=90, offset=2, commit=None, after=_row(1, "new")),
    )
    assert _rows(folded, "note", "_lsn", "_guard_lsn") == [("new", 90, LSN_MAX)]


def test_snapshot_row_never_beats_a_streamed_change_of_a_higher_lsn() -> None:
    folded = _fold(
        event("u", lsn=100, offset=1, after=_row(1, "new")),
        event("r", lsn=90, offset=2, commit=None, order=None, after=_row(1, "old")),
    )
    assert _rows(folded, "note", "_lsn") == [("new", 100)]


# -- values that events leave out


def test_unchanged_large_value_comes_from_an_earlier_change_in_the_batch() -> None:
    folded = _fold(
        event("c", lsn=10, after=_row(1, "a", "large")),
        event("u", lsn=20, after=_row(1, "b", GONE)),
        event("u", lsn=30, after=_row(1, "c", GONE)),
    )
    assert _rows(folded, "note", "big") == [("c", "large")]
    assert folded.keep_columns == []


def test_unchanged_large_value_that_the_batch_does_not_hold_is_kept_in_silver() -> None:
    folded = _fold(event("u", lsn=10, after=_row(1, "a", GONE)), event("c", lsn=20, after=_row(2)))
    assert folded.keep_columns == ["big"]
    assert _rows(folded, "id", "big", "_keep_big") == [(1, None, True), (2, "b", False)]


def test_null_that_became_of_a_large_value_is_a_null_and_not_kept() -> None:
    folded = _fold(
        event("u", lsn=10, after=_row(1, "a", GONE)), event("u", lsn=20, after=_row(1, "a", None))
    )
    assert folded.keep_columns == []
    assert _rows(folded, "big") == [(None,)]


def test_row_whose_kept_value_silver_does_not_have_is_rejected_and_never_a_null() -> None:
    folded = _fold(
        event("u", lsn=10, after=_row(1, "a", GONE)),
        event("u", lsn=20, after=_row(2, "a", GONE)),
        present={(2,)},
    )
    assert _rows(folded, "id") == [(2,)]
    [reject] = folded.rejects
    assert reject.rule == "unavailable-value"
    assert reject.reason == (
        "the event leaves out the unchanged value of column big, "
        "and silver has no row to take it from"
    )


# -- key changes


def _key_change(
    old: int, new: int, lsn: int, offset: int, order: int = 1, **partitions: int
) -> tuple[RawEvent, RawEvent]:
    delete = event(
        "d",
        lsn=lsn,
        offset=offset,
        order=order,
        key={"id": old},
        headers={"newkey": {"id": new}},
        partition=partitions.get("of_old", 0),
    )
    create = event(
        "c",
        lsn=lsn,
        offset=offset + 1,
        order=order + 1,
        after=_row(new, "moved", GONE),
        headers={"oldkey": {"id": old}},
        partition=partitions.get("of_new", 0),
    )
    return delete, create


def test_key_change_takes_the_large_value_from_the_old_row_in_the_batch() -> None:
    folded = _fold(
        event("c", lsn=10, offset=1, after=_row(1, "a", "large")), *_key_change(1, 2, 20, 2)
    )
    assert _rows(folded, "id", "big", "_op") == [(1, None, "d"), (2, "large", "u")]


def test_key_change_takes_the_large_value_from_the_old_row_in_silver() -> None:
    folded = _fold(*_key_change(1, 2, 20, 1), silver={(1,): _row(1, "a", "stored")})
    assert _rows(folded, "id", "big", "_op") == [(1, None, "d"), (2, "stored", "u")]
    assert folded.keep_columns == []


def test_key_change_over_two_partitions_is_folded_in_the_order_of_the_stream() -> None:
    delete, create = _key_change(1, 2, 20, 5, of_old=1, of_new=0)
    silver = {(1,): _row(1, "a", "stored")}
    folded = _fold(delete, create, silver=silver)
    assert sorted(_rows(folded, "id", "big", "_op")) == [(1, None, "d"), (2, "stored", "u")]


def test_keys_that_swap_take_each_others_large_values() -> None:
    folded = _fold(
        *_key_change(1, 3, 20, 1, order=1),
        *_key_change(2, 1, 21, 3, order=3),
        *_key_change(3, 2, 22, 5, order=5),
        silver={(1,): _row(1, "a", "one"), (2,): _row(2, "a", "two")},
    )
    assert sorted(_rows(folded, "id", "big", "_op")) == [
        (1, "two", "u"),
        (2, "one", "u"),
        (3, None, "d"),
    ]


def test_key_that_comes_back_keeps_its_large_value() -> None:
    folded = _fold(*_key_change(1, 2, 20, 1), *_key_change(2, 1, 21, 3, order=3))
    assert sorted(_rows(folded, "id", "_op", "_keep_big")) == [(1, "u", True), (2, "d", False)]


def test_key_change_whose_old_row_is_nowhere_is_rejected() -> None:
    folded = _fold(*_key_change(1, 2, 20, 1))
    assert _rows(folded, "id", "_op") == [(1, "d")]
    assert [reject.rule for reject in folded.rejects] == ["unavailable-value"]


def test_create_whose_delete_did_not_come_does_not_trust_silver() -> None:
    _, create = _key_change(1, 2, 20, 1)
    folded = _fold(create, silver={(1,): _row(1, "a", "perhaps old")})
    assert _rows(folded, "id", "_op", "_guard_lsn") == [(1, "d", 20)]
    assert folded.rejects[0].reason.endswith("did not come with it")


def test_update_of_an_index_identity_removes_the_row_under_its_old_key() -> None:
    contract = replace(KEYED, key=("note",), replica_identity="index")
    update = event("u", before=_row(1, "a"), after=_row(1, "b"))
    folded = _fold(update, contract=contract)
    assert sorted(_rows(folded, "note", "_op")) == [("a", "d"), ("b", "u")]


# -- TRUNCATE


def test_truncate_empties_silver_and_the_batch_up_to_its_lsn() -> None:
    folded = _fold(
        event("c", lsn=10, after=_row(1)),
        event("t", lsn=20),
        event("c", lsn=30, after=_row(2)),
    )
    assert folded.truncate_lsn == 20
    assert _rows(folded, "id") == [(2,)]


def test_truncate_in_another_partition_counts_by_lsn() -> None:
    folded = _fold(
        event("t", lsn=20, partition=1),
        event("c", lsn=10, partition=0, after=_row(1)),
        event("c", lsn=30, partition=0, after=_row(2)),
    )
    assert _rows(folded, "id") == [(2,)]


# -- bags


def test_copies_of_a_row_are_netted() -> None:
    row, other = _row(1, "a", None), _row(1, "b", None)
    folded = _fold(
        event("c", lsn=10, after=row),
        event("c", lsn=20, after=row),
        event("d", lsn=30, before=other),
        event("u", lsn=40, before=row, after=other),
        contract=BAG,
    )
    assert _rows(folded, "note", "_op") == [("a", "i")]


def test_copies_more_and_copies_less_have_one_row_each() -> None:
    row = _row(1, "a", None)
    added = _fold(*(event("c", lsn=n, after=row) for n in (1, 2, 3)), contract=BAG)
    assert _rows(added, "_op") == [("i",)] * 3
    removed = _fold(*(event("d", lsn=n, before=row) for n in (1, 2)), contract=BAG)
    assert _rows(removed, "_op", "note") == [("d", "a")] * 2


def test_rows_with_not_a_number_and_null_are_netted_too() -> None:
    note = replace(KEYED.columns[1], kind="float64")
    big = replace(KEYED.columns[2], kind="array", element="float64")
    contract = replace(BAG, columns=(KEYED.columns[0], note, big))
    row = {"id": None, "note": "NaN", "big": "{NaN,NULL}"}
    folded = _fold(event("c", lsn=1, after=row), event("d", lsn=2, before=row), contract=contract)
    assert folded.rows.num_rows == 0


def test_new_snapshot_of_a_bag_takes_the_place_of_everything_before() -> None:
    row = _row(1, "a", None)
    folded = _fold(
        event("c", lsn=10, offset=1, after=row),
        event("r", lsn=50, offset=2, commit=None, order=None, after=row, snapshot="first"),
        event("r", lsn=50, offset=3, commit=None, order=None, after=row, snapshot="last"),
        event("c", lsn=40, offset=4, commit=60, after=row),  # its transaction was open meanwhile
        contract=BAG,
    )
    assert folded.resnapshot_lsn == 50
    assert _rows(folded, "_op") == [("i",)] * 3


def test_truncate_of_a_bag_drops_the_copies_before_it() -> None:
    row = _row(1, "a", None)
    folded = _fold(
        event("c", lsn=10, after=row),
        event("t", lsn=20),
        event("c", lsn=30, after=row),
        contract=BAG,
    )
    assert (folded.truncate_lsn, _rows(folded, "_lsn", "_op")) == (20, [(30, "i")])


def test_copies_are_told_apart_by_the_columns_that_the_source_still_has() -> None:
    big = replace(BAG.columns[2], dropped=True)
    contract = replace(BAG, columns=(*BAG.columns[:2], big))
    before = {"id": 1, "note": "a"}
    folded = _fold(
        event("c", lsn=10, after=_row(1, "a", "of the time before")),
        event("d", lsn=20, before=before),
        event("d", lsn=30, before={"id": 2, "note": "b"}),
        contract=contract,
    )
    assert _rows(folded, "id", "_op") == [(2, "d")]
    assert contract.identity_columns == ["id", "note"]

"""The meaning of a history, case by case. `docs/history.md` names each of these tests."""

from __future__ import annotations

from typing import Any

import pytest

from spark_streaming.history.intervals import (
    KEY_CHANGE,
    RESYNC,
    TRUNCATE,
    Floor,
    Instant,
    Intervals,
    Step,
    Version,
    intervals,
)

NEWEST = 2**63 - 1
Shown = tuple[Any, ...]


def at(lsn: int) -> Instant:
    return Instant(lsn, lsn * 1000)


def change(
    op: str, key: Any, image: int = -1, *, lsn: int, commit: int | None = None, **more: Any
) -> Step:
    """A streamed change, unless a `guard` is given: it ends whatever is there."""
    more.setdefault("guard", NEWEST)
    return Step(op, (key,), lsn, at(lsn + 1 if commit is None else commit), image=image, **more)


def read(key: Any, image: int, *, lsn: int) -> Step:
    """A snapshot's row: it ends only older versions."""
    return change("r", key, image, lsn=lsn, commit=lsn, guard=lsn)


def fold(
    *steps: Step, stored: tuple[Version, ...] = (), each: bool = True, **more: Any
) -> Intervals:
    return intervals(stored, steps, each=each, **more)


def shown(found: Intervals) -> list[Shown]:
    """All versions as (key, image, made by, from, to, ended by), in their order."""
    versions = [*found.ended, *found.current.values()]
    rows = [
        (v.key[0], v.image, v.operation, v.since.lsn, v.until.lsn if v.until else None, v.ended_by)
        for v in versions
    ]
    return sorted(rows, key=lambda row: (row[0], row[3], row[4] or NEWEST, row[1]))


def valid_at(found: Intervals, lsn: int) -> dict[Any, int]:
    versions = [*found.ended, *found.current.values()]
    return {
        v.key[0]: v.image
        for v in versions
        if v.since.lsn <= lsn and (v.until is None or lsn < v.until.lsn)
    }


def test_an_insert_opens_a_version_that_is_valid_from_its_commit() -> None:
    found = fold(change("c", 1, 0, lsn=10, commit=15))
    assert shown(found) == [(1, 0, "insert", 15, None, None)]
    assert valid_at(found, 14) == {}
    assert valid_at(found, 15) == {1: 0}


def test_an_update_ends_a_version_where_the_next_one_begins() -> None:
    found = fold(change("c", 1, 0, lsn=10), change("u", 1, 1, lsn=20))
    assert shown(found) == [(1, 0, "insert", 11, 21, "update"), (1, 1, "update", 21, None, None)]


def test_the_current_versions_are_the_rows_of_scd_type_1() -> None:
    found = fold(
        change("c", 1, 0, lsn=10),
        change("c", 2, 1, lsn=20),
        change("u", 1, 2, lsn=30),
        change("d", 2, lsn=40),
    )
    assert {key[0]: version.image for key, version in found.current.items()} == {1: 2}


def test_a_delete_ends_a_version_and_opens_none() -> None:
    found = fold(change("c", 1, 0, lsn=10), change("d", 1, lsn=20))
    assert shown(found) == [(1, 0, "insert", 11, 21, "delete")]


def test_a_delete_of_a_row_that_is_not_there_leaves_nothing() -> None:
    assert fold(change("d", 1, lsn=20)) == Intervals()


def test_a_row_that_comes_again_has_a_gap_between_its_versions() -> None:
    found = fold(change("c", 1, 0, lsn=10), change("d", 1, lsn=20), change("c", 1, 1, lsn=40))
    assert shown(found) == [(1, 0, "insert", 11, 21, "delete"), (1, 1, "insert", 41, None, None)]
    assert valid_at(found, 30) == {}


ONE_TRANSACTION = (
    change("u", 1, 1, lsn=20, commit=50),
    change("u", 1, 2, lsn=30, commit=50),
    change("u", 1, 3, lsn=40, commit=50),
)
STORED = Version((1,), 0, 5, "insert", at(6))


def test_each_keeps_the_versions_within_a_transaction_which_nobody_else_saw() -> None:
    found = fold(*ONE_TRANSACTION, stored=(STORED,))
    assert shown(found) == [
        (1, 0, "insert", 6, 50, "update"),
        (1, 1, "update", 50, 50, "update"),
        (1, 2, "update", 50, 50, "update"),
        (1, 3, "update", 50, None, None),
    ]
    assert valid_at(found, 50) == {1: 3}


def test_last_keeps_what_a_transaction_left() -> None:
    found = fold(*ONE_TRANSACTION, stored=(STORED,), each=False)
    assert shown(found) == [(1, 0, "insert", 6, 50, "update"), (1, 3, "update", 50, None, None)]


def test_last_calls_a_row_that_was_inserted_and_changed_at_once_an_insert() -> None:
    found = fold(
        change("c", 1, 0, lsn=10, commit=50), change("u", 1, 1, lsn=20, commit=50), each=False
    )
    assert shown(found) == [(1, 1, "insert", 50, None, None)]


def test_last_has_nothing_of_a_row_that_came_and_went_in_one_transaction() -> None:
    steps = change("c", 1, 0, lsn=10, commit=50), change("d", 1, lsn=20, commit=50)
    assert shown(fold(*steps, each=False)) == []
    assert shown(fold(*steps)) == [(1, 0, "insert", 50, 50, "delete")]


def test_changes_of_one_lsn_count_in_the_order_of_the_stream() -> None:
    """Rows of one COPY share an LSN; their numbers in the transaction order them before this."""
    found = fold(change("c", 1, 0, lsn=10, commit=50), change("u", 1, 1, lsn=10, commit=50))
    assert valid_at(found, 50) == {1: 1}


def test_a_late_snapshot_row_does_not_end_a_newer_version() -> None:
    found = fold(change("c", 1, 1, lsn=30), read(1, 0, lsn=20))
    assert shown(found) == [(1, 1, "insert", 31, None, None)]


def test_a_transaction_that_was_open_during_the_snapshot_ends_its_rows_though_its_lsn_is_lower() -> (
    None
):
    found = fold(read(1, 0, lsn=100), change("u", 1, 1, lsn=90, commit=120))
    assert shown(found) == [
        (1, 0, "snapshot", 100, 120, "update"),
        (1, 1, "update", 120, None, None),
    ]


def test_a_row_that_is_read_again_unchanged_goes_on_and_counts_as_read() -> None:
    stored = Version((1,), 0, 5, "insert", at(6))
    found = fold(read(1, 1, lsn=50), stored=(stored,), same=lambda version, image: True)
    assert shown(found) == [(1, 0, "insert", 6, None, None)]
    assert found.current[1,].lsn == 50


def test_a_row_that_is_read_again_with_other_values_is_a_new_version() -> None:
    stored = Version((1,), 0, 5, "insert", at(6))
    found = fold(read(1, 1, lsn=50), stored=(stored,))
    assert shown(found) == [
        (1, 0, "insert", 6, 50, "snapshot"),
        (1, 1, "snapshot", 50, None, None),
    ]


def test_an_update_to_the_same_values_is_a_version() -> None:
    found = fold(change("u", 1, 1, lsn=20), stored=(STORED,), same=lambda version, image: True)
    assert shown(found) == [(1, 0, "insert", 6, 21, "update"), (1, 1, "update", 21, None, None)]


def test_a_truncate_ends_every_older_version_also_those_that_no_event_names() -> None:
    floor = Step("t", (), 30, at(35), NEWEST, reason=TRUNCATE)
    found = fold(
        change("c", 1, 0, lsn=10), change("c", 2, 1, lsn=20), floor, change("c", 1, 2, lsn=40)
    )
    assert shown(found) == [
        (1, 0, "insert", 11, 35, "truncate"),
        (1, 2, "insert", 41, None, None),
        (2, 1, "insert", 21, 35, "truncate"),
    ]
    assert found.floors == [Floor(30, at(35), TRUNCATE)]


def test_a_truncate_that_is_read_late_spares_newer_versions() -> None:
    floor = Step("t", (), 30, at(35), NEWEST, reason=TRUNCATE)
    found = fold(change("c", 1, 0, lsn=10), change("c", 2, 1, lsn=40), floor)
    assert shown(found) == [
        (1, 0, "insert", 11, 35, "truncate"),
        (2, 1, "insert", 41, None, None),
    ]


def test_the_end_of_a_resync_ends_rows_that_it_did_not_read() -> None:
    stored = (STORED, Version((2,), 1, 5, "insert", at(6)))
    end = Step("t", (), 40, at(60), NEWEST, reason=RESYNC)
    found = fold(read(1, 2, lsn=50), end, stored=stored, same=lambda version, image: True)
    assert shown(found) == [(1, 0, "insert", 6, None, None), (2, 1, "insert", 6, 60, "resync")]


def moved(gaps: tuple[int, ...] = (), **more: Any) -> tuple[Step, Step]:
    """The key 1 becomes 2, as Debezium sends it: a delete and a create of one LSN."""
    return (
        change("d", 1, lsn=20, commit=50, reason=KEY_CHANGE),
        change("c", 2, 1, lsn=20, commit=50, gaps=gaps, old_key=(1,), old_guard=20, **more),
    )


def test_a_changed_key_ends_the_row_under_the_old_key_and_opens_it_under_the_new() -> None:
    found = fold(*moved(), stored=(STORED,))
    assert shown(found) == [
        (1, 0, "insert", 6, 50, "key change"),
        (2, 1, "key change", 50, None, None),
    ]


def test_the_second_half_of_a_key_change_ends_the_old_row_by_itself() -> None:
    found = fold(moved()[1], stored=(STORED,))
    assert shown(found) == [
        (1, 0, "insert", 6, 50, "key change"),
        (2, 1, "key change", 50, None, None),
    ]


def test_a_changed_key_takes_left_out_values_from_the_old_row() -> None:
    both = fold(*moved(gaps=(2,)), stored=(STORED,))
    assert both.current[2,].cells == {2: 0}
    before = Version((1,), 7, 5, "insert", at(6), until=at(50), ended_by="delete")
    found = fold(moved(gaps=(2,))[1], ended=lambda key: before if key == (1,) else None)
    assert found.current[2,].cells == {2: 7}


def test_a_row_that_takes_a_freed_key_is_spared_by_the_late_half_of_a_key_change() -> None:
    newer = Version((1,), 9, 70, "insert", at(71))
    found = fold(moved()[1], stored=(newer,))
    assert found.current[1,] == newer


def test_a_left_out_value_is_that_of_the_version_before_and_never_null() -> None:
    """Debezium leaves out large values that did not change. NULL in an event is a NULL."""
    found = fold(
        change("u", 1, 1, lsn=20, gaps=(2,)), change("u", 1, 2, lsn=30, gaps=(2,)), stored=(STORED,)
    )
    assert [version.cells for version in found.ended] == [{}, {2: 0}]
    assert found.current[1,].cells == {2: 0}


def test_a_left_out_value_that_nothing_has_makes_no_version() -> None:
    found = fold(change("u", 1, 1, lsn=20, gaps=(2,)))
    assert (shown(found), found.refused) == ([], 1)


def test_an_event_that_broke_the_contract_makes_no_version_and_is_noted() -> None:
    found = fold(change("u", 1, 1, lsn=20, refused=True), stored=(STORED,))
    assert shown(found) == [(1, 0, "insert", 6, None, None)]
    assert found.current[1,].quarantined
    assert found.refused == 1


def test_a_value_left_out_after_an_event_in_quarantine_is_not_taken_from_before_it() -> None:
    found = fold(
        change("u", 1, 1, lsn=20, refused=True),
        change("u", 1, 2, lsn=30, gaps=(2,)),
        change("u", 1, 3, lsn=40),
        stored=(STORED,),
    )
    assert shown(found) == [(1, 0, "insert", 6, 41, "update"), (1, 3, "update", 41, None, None)]
    assert not found.current[1,].quarantined


def test_a_refused_row_under_a_new_key_still_leaves_its_old_one() -> None:
    found = fold(*moved(refused=True), stored=(STORED,))
    assert shown(found) == [(1, 0, "insert", 6, 50, "key change")]


@pytest.mark.parametrize("read_at_us", [100_000, 999_000])
def test_no_version_ends_before_it_begins_though_a_snapshot_reads_its_rows_late(
    read_at_us: int,
) -> None:
    row = Step("r", (1,), 100, Instant(100, read_at_us), 100, image=0)
    found = fold(row, change("u", 1, 1, lsn=110, commit=120))
    [ended] = found.ended
    assert ended.since.time_us == min(read_at_us, 120_000)
    assert ended.until == at(120)


def test_folding_in_pieces_is_folding_at_once() -> None:
    steps = [
        change("c", 1, 0, lsn=10),
        *(step._replace(key=(1,)) for step in ONE_TRANSACTION),
        change("d", 1, lsn=60),
        change("c", 1, 4, lsn=70),
    ]
    whole = fold(*steps)
    for place in range(len(steps) + 1):
        first = fold(*steps[:place])
        second = fold(*steps[place:], stored=tuple(first.current.values()))
        assert second.current == whole.current
        assert [*first.ended, *second.ended] == whole.ended

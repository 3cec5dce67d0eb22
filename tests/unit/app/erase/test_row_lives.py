"""A row is followed through changes of its key; another row that has had the same key is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from app.erase.row_lives import KEYS_MAX, KeyEvent, Lives, follow, in_order, lives
from app.errors import HeadwaterError
from app.trace.trace_key import RowKey
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column

ID = Column("id", "integer", "int32")


def key(number: int) -> RowKey:
    return RowKey((ID,), (number,), (number,), (("id",),))


class Log:
    """Events of rows with keys 1, 2, …, in the order of the log."""

    def __init__(self, partitions: int = 1) -> None:
        self.events: dict[RowKey, list[KeyEvent]] = {}
        self.searches = 0
        self._lsn = 0
        self._ends = [0] * partitions

    def add(self, op: str, number: int, *, came: int = 0, went: int = 0) -> KeyEvent:
        self._lsn += 10
        partition = number % len(self._ends)
        event = KeyEvent(
            partition,
            self._ends[partition],
            "path",
            Lsn(self._lsn if op else 0),
            op,
            key(came) if came else None,
            key(went) if went else None,
        )
        self._ends[partition] += 1
        self.events.setdefault(key(number), []).append(event)
        return event

    def move(self, old: int, new: int) -> list[KeyEvent]:
        """A changed key: a delete with its tombstone, and an insert."""
        gone = [self.add("d", old, went=new), self.add("", old)]
        return [*gone, self.add("c", new, came=old)]

    def search(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Sequence[KeyEvent]]:
        self.searches += 1
        return {one: in_order(self.events.get(one, [])) for one in keys}

    def follow(self, number: int) -> Lives:
        return follow(key(number), self.search)


def places(events: Sequence[KeyEvent]) -> set[tuple[int, int]]:
    return {(event.partition, event.offset) for event in events}


def test_all_events_of_the_key_that_was_asked_for_are_erased_whichever_row_had_it() -> None:
    log = Log()
    events = [log.add(op, 1) for op in ("c", "u", "d", "", "c", "u", "d", "")]
    log.add("c", 2)
    found = log.follow(1)
    assert list(found.events) == [key(1)] and places(found.events[key(1)]) == places(events)
    assert found.going_on == []


@pytest.mark.parametrize("partitions", [1, 3])
def test_an_earlier_key_of_the_row_is_followed_back_through_several_changes(
    partitions: int,
) -> None:
    log = Log(partitions)
    first = [log.add("r", 3), log.add("u", 3)]
    to_two = log.move(3, 2)
    to_one = log.move(2, 1)
    log.add("d", 1)
    found = log.follow(1)
    assert places(found.events[key(3)]) == places([*first, *to_two[:2]])
    assert places(found.events[key(2)]) == places([to_two[2], *to_one[:2]])
    assert found.going_on == []


def test_another_row_that_had_an_earlier_key_before_or_has_it_after_stays() -> None:
    log = Log()
    for op in ("c", "u", "d", ""):
        log.add(op, 2)  # another row
    mine = [log.add("c", 2), *log.move(2, 1)[:2]]
    log.add("d", 1)
    log.add("c", 2)  # another row again, and it lives
    found = log.follow(1)
    assert places(found.events[key(2)]) == places(mine)
    assert found.going_on == []


def test_a_row_that_a_truncate_removed_is_no_part_of_the_next_one_under_that_key() -> None:
    log = Log()
    log.add("c", 2)  # a TRUNCATE removes it, which is no event of the key
    mine = [log.add("c", 2), *log.move(2, 1)[:2]]
    log.add("d", 1)
    assert places(log.follow(1).events[key(2)]) == places(mine)


def test_a_row_that_goes_on_under_another_key_is_followed_to_its_end() -> None:
    log = Log()
    log.add("c", 1)
    moved = log.move(1, 2)
    mine = [moved[2], log.add("u", 2), log.add("d", 2), log.add("", 2)]
    log.add("c", 2)
    found = log.follow(1)
    assert places(found.events[key(2)]) == places(mine)
    assert found.going_on == []


def test_a_row_that_may_still_exist_under_another_key_is_reported() -> None:
    log = Log()
    log.add("c", 1)
    log.move(1, 2)
    log.add("u", 2)
    assert log.follow(1).going_on == [key(2)]


def test_a_key_under_which_bronze_shows_no_row_may_still_have_it() -> None:
    log = Log()
    log.add("c", 1)
    log.add("d", 1, went=2)
    assert log.follow(1).going_on == [key(2)]


def test_a_row_that_comes_back_to_its_first_key_is_followed_once() -> None:
    log = Log()
    log.add("c", 1)
    there, back = log.move(1, 2), log.move(2, 1)
    log.add("d", 1)
    found = log.follow(1)
    assert places(found.events[key(2)]) == places([there[2], *back[:2]])
    assert found.going_on == [] and log.searches == 2


def test_events_of_several_partitions_are_ordered_by_lsn_and_a_tombstone_follows_its_delete() -> (
    None
):
    events = [
        KeyEvent(0, 0, "p", Lsn(10), "c"),
        KeyEvent(1, 5, "p", Lsn(30), "c"),
        KeyEvent(0, 1, "p", Lsn(20), "d"),
        KeyEvent(0, 2, "p", Lsn(0), ""),
    ]
    ordered = in_order(events)
    assert [(e.partition, e.offset) for e in ordered] == [(0, 0), (0, 1), (0, 2), (1, 5)]
    assert [len(life) for life in lives(ordered)] == [3, 1]


def test_a_key_that_changed_too_often_is_refused() -> None:
    log = Log()
    log.add("c", KEYS_MAX + 5)
    for number in range(KEYS_MAX + 5, 1, -1):
        log.move(number, number - 1)
    log.add("d", 1)
    with pytest.raises(HeadwaterError, match="more than"):
        log.follow(1)

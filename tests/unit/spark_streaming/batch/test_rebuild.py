"""The pure parts of a rebuild: the order of its events, its state, and its effect on quarantine."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from spark_streaming.batch.rebuild_state import Rebuild, rebuild_of
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import Place, RawEvent
from spark_streaming.events.position import HighWater, Position
from spark_streaming.ops.stopped import Slice
from spark_streaming.quarantine.quarantine import DISCARDED, OPEN, REPLAYED, SUPERSEDED
from spark_streaming.quarantine.rebuilt_entries import Resolution, resolution
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.tables.engine_protocol import Commit

MANY = 1 << 30


def event(partition: int, offset: int, time_ms: int = 0, size: int = 1) -> RawEvent:
    return RawEvent("hw.public.films", partition, offset, time_ms, None, b"x" * size, [])


def places(events: list[RawEvent]) -> list[tuple[int, int]]:
    return [(one.partition, one.offset) for one in events]


def test_events_of_all_partitions_come_in_the_order_of_their_times() -> None:
    feed = EventsByTime(
        {0: [event(0, 0, 10), event(0, 1, 30)], 1: [event(1, 7, 20), event(1, 8, 40)]}
    )
    assert places(feed.take(3, MANY)) == [(0, 0), (1, 7), (0, 1)]
    assert places(feed.take(3, MANY)) == [(1, 8)]
    assert feed.take(3, MANY) == []


def test_events_of_one_millisecond_are_not_cut_apart_within_twice_the_limit() -> None:
    events = [event(0, offset, 10 if offset < 5 else 20) for offset in range(20)]
    feed = EventsByTime({0: events})
    assert [len(feed.take(3, MANY)) for _ in range(4)] == [5, 6, 6, 3]


def test_slice_ends_where_its_bytes_pass_the_limit() -> None:
    feed = EventsByTime({0: [event(0, offset, offset, size=40) for offset in range(5)]})
    assert [len(feed.take(100, 100)) for _ in range(3)] == [3, 2, 0]


def test_events_that_are_too_young_are_left_to_the_stream() -> None:
    feed = EventsByTime({0: [event(0, 0, 10), event(0, 1, 50)], 1: [event(1, 0, 60)]}, before_ms=50)
    assert places(feed.take(9, MANY)) == [(0, 0)]
    assert feed.take(9, MANY) == []


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 9))
def test_a_slice_that_was_planned_is_given_again_and_nothing_is_left_out(
    seed: int, partitions: int, limit: int
) -> None:
    random = Random(seed)
    events = {
        p: [event(p, offset, random.randint(0, 9)) for offset in range(random.randint(0, 20))]
        for p in range(partitions)
    }
    feed = EventsByTime(events)
    ends: dict[int, int] = {}
    for _ in range(random.randint(0, 4)):
        for one in feed.take(limit, MANY):
            ends[one.partition] = one.offset + 1
    planned = feed.take(limit, MANY)
    after = {**ends, **{one.partition: one.offset + 1 for one in planned}}
    again = EventsByTime({p: some[ends.get(p, 0) :] for p, some in events.items()})
    assert sorted(again.take_until(after)) == sorted(planned)
    rest = []
    while some := again.take(limit, MANY):
        rest += some
    assert sorted(rest) == sorted(
        one for p, some in events.items() for one in some if one.offset >= after.get(p, 0)
    )


def test_state_is_read_back_equal_and_names_its_swap() -> None:
    marks = HighWater({("hw.a.b", 0): Position(Lsn(5), Lsn(6), 7)})
    piece = Slice({0: 1}, {0: 9}, Commit("headwater:rebuild:x", 9))
    state = Rebuild("x", "a__b", "a", "b", "hw.a.b", "rules", {0: 1, 3: 4}, marks, piece, 12)
    assert Rebuild.from_json(state.to_json()) == state
    taken = state.taken(piece, 3, marks)
    assert (taken.offsets, taken.planned, taken.events) == ({0: 9, 3: 4}, None, 15)
    swap = taken.swap({0: 2})
    assert rebuild_of(Slice.from_json(swap.to_json())) == "x"
    assert rebuild_of(Slice({}, {}, Commit("headwater:q:a__b:resume", 3))) is None


def at(offset: int) -> Place:
    return Place("hw.a.b", 0, offset)


def test_entry_stays_as_it_is_while_its_event_is_still_out() -> None:
    kept = {at(1): OPEN, at(2): DISCARDED}
    assert resolution(kept, {at(1): OPEN, at(2): OPEN}, {0: 10}) == Resolution()


def test_entry_whose_event_silver_takes_now_is_resolved() -> None:
    kept = {at(1): OPEN, at(2): DISCARDED, at(3): OPEN, at(4): REPLAYED}
    found = resolution(kept, {at(3): SUPERSEDED}, {0: 10})
    assert found == Resolution(superseded={at(3)}, replayed={at(1), at(2)})


def test_event_that_breaks_the_contract_now_gets_an_open_entry() -> None:
    kept = {at(1): REPLAYED, at(2): SUPERSEDED}
    found = resolution(kept, {at(1): OPEN, at(5): OPEN, at(6): SUPERSEDED}, {0: 10})
    assert found == Resolution(reopened={at(1)}, added={at(5)})


def test_entries_behind_the_rebuilds_end_are_judged_again_by_the_stream() -> None:
    kept = {at(9): OPEN, at(10): OPEN, at(11): SUPERSEDED, Place("hw.a.b", 1, 0): OPEN}
    found = resolution(kept, {at(9): OPEN}, {0: 10})
    assert found.taken_back == {at(10), at(11), Place("hw.a.b", 1, 0)}

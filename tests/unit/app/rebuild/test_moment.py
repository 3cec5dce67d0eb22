"""A moment has the events of complete transactions up to it, whatever happened to the table."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone
from operator import attrgetter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import HeadwaterError
from app.rebuild.moment import Cut, Moment, Wanted, parse_until
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from tests.unit.model import BAG, KEYED, Source, fold_batches
from tests.unit.source_model import Transaction

WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
State = tuple[int, Counter[tuple[Any, ...]]]


class Remembering(Source):
    """A source that remembers its rows after each commit that has events, with the commit's LSN."""

    states: list[State]

    def _commit(self, which: Transaction | None = None) -> None:
        before = len(self.waiting)
        super()._commit(which)
        if len(self.waiting) > before:
            self.states.append((self.lsn, self.content()))


def remembered(seed: int, contract: Contract, partitions: int, *, resyncs: bool) -> Remembering:
    """A history whose states begin at the first snapshot."""
    random = Random(seed)
    source = Remembering(random, contract, partitions)
    source.states = []
    for _ in range(8):
        source.step()
    source.snapshot(first=True)
    source.states = []
    for _ in range(60):
        source.step()
        if random.random() < 0.3:
            source.send()
        if resyncs and random.random() < 0.05:
            source.resync(2)
    source.finish()
    return source


def by_partition(source: Source) -> dict[int, list[RawEvent]]:
    """All events of each partition, in the order of their offsets; times are the stream's order."""
    found: dict[int, list[RawEvent]] = {number: [] for number in range(source.partitions)}
    for time_ms, (_, event) in enumerate(source.stream):
        found[event.partition].append(event._replace(timestamp_ms=time_ms))
    return found


def kept_of(cut: Cut, partitions: dict[int, list[RawEvent]]) -> list[RawEvent]:
    return [event for p, events in partitions.items() for event in cut.kept(p, events, 0)]


@pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])
@pytest.mark.parametrize("resyncs", [False, True], ids=["stream", "resyncs"])
@given(seed=st.integers(0, 2**32))
def test_events_of_a_moment_fold_into_the_rows_that_the_source_had_then(
    contract: Contract, resyncs: bool, seed: int
) -> None:
    source = remembered(seed, contract, 1 if contract is BAG else 3, resyncs=resyncs)
    random = Random(seed)
    for number, (commit, content) in enumerate(source.states):
        last = number + 1 == len(source.states)
        upto = source.lsn if last else source.states[number + 1][0] - 1
        moment = Moment(Lsn(commit), Lsn(random.randint(commit, max(commit, upto))), WHEN)
        kept = kept_of(Cut(moment), by_partition(source))
        kept.sort(key=attrgetter("timestamp_ms"))
        silver, rejects = fold_batches([kept], contract)
        assert not rejects
        assert silver.content() == content, (seed, moment)


@given(seed=st.integers(0, 2**32))
def test_version_is_exact_only_with_all_events_of_the_moment_and_none_after(seed: int) -> None:
    source = remembered(seed, KEYED, 2, resyncs=False)
    if not source.states:
        return
    random = Random(seed)
    commit, _ = random.choice(source.states)
    cut = Cut(Moment(Lsn(commit), Lsn(commit), WHEN))
    partitions = by_partition(source)
    kept = {(e.partition, e.offset) for e in kept_of(cut, partitions) if e.value is not None}
    merged = {p: random.randint(0, len(events)) for p, events in partitions.items()}
    there = {
        (p, event.offset)
        for p, events in partitions.items()
        for event in events[: merged[p]]
        if event.value is not None
    }
    # A tombstone belongs to neither side.
    assert cut.is_held_exactly(merged) == (there == kept)


def test_interrupted_cut_goes_on_at_an_offset_and_still_knows_where_it_ends() -> None:
    events = [streamed(offset, before=offset * 10, lsn=offset * 10 + 5) for offset in range(9)]
    cut = Cut(Moment(Lsn(50), Lsn(55), WHEN))
    assert [event.offset for event in cut.kept(0, events, 3)] == [3, 4]
    assert (cut.ends, cut.beyond) == ({0: 5}, {0: 5})


def test_transaction_of_the_moment_has_events_up_to_its_commit() -> None:
    # One transaction commits at 300; its events name the commit before it, 100.
    of_it = [streamed(n, before=100, lsn=200 + n) for n in range(3)]
    after = streamed(3, before=300, lsn=150)  # began earlier, and commits later
    cut = Cut(Moment(Lsn(300), Lsn(400), WHEN))
    assert len(list(cut.kept(0, [*of_it, after], 0))) == 3
    earlier = Cut(Moment(Lsn(100), Lsn(299), WHEN))
    assert list(earlier.kept(0, of_it, 0)) == []


def test_event_that_is_none_does_not_end_a_moment() -> None:
    odd = RawEvent("t", 0, 0, 0, None, b"no json", [])
    tombstone = RawEvent("t", 0, 1, 0, b"1", None, [])
    cut = Cut(Moment(Lsn(50), Lsn(50), WHEN))
    kept = list(cut.kept(0, [odd, tombstone, streamed(2, before=60, lsn=70), odd], 0))
    assert kept == [odd, tombstone]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0/24306A8", Wanted(Lsn(0x24306A8), None)),
        ("16/B374D848", Wanted(Lsn((0x16 << 32) + 0xB374D848), None)),
        ("37941784", Wanted(Lsn(37941784), None)),
        ("2026-01-01T00:00:00Z", Wanted(None, WHEN)),
        ("2026-01-01 01:00:00+01:00", Wanted(None, WHEN)),
        ("2026-01-01", Wanted(None, WHEN)),
    ],
)
def test_moment_is_given_as_an_lsn_or_as_a_time(text: str, wanted: Wanted) -> None:
    assert parse_until(text) == wanted


@pytest.mark.parametrize("text", ["yesterday", "", "0/", "-5", "2026-13-01", "1/2/3"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(HeadwaterError, match="neither an LSN nor a time"):
        parse_until(text)


def streamed(offset: int, *, before: int, lsn: int) -> RawEvent:
    sequence = json.dumps([str(before), str(lsn)], separators=(",", ":"))
    document = {"op": "c", "source": {"lsn": lsn, "sequence": sequence, "snapshot": "false"}}
    return RawEvent("t", 0, offset, 0, b"1", json.dumps(document).encode(), [])

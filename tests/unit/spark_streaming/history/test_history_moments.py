"""At each commit of the source, a history has exactly the rows that the source had then."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.history.dating import dated, groups
from spark_streaming.history.history_slice import Slices
from spark_streaming.rules.rules import no_rules
from tests.support.examples import examples
from tests.unit.app.rebuild.test_moment import Remembering, by_partition, remembered
from tests.unit.model import KEYED
from tests.unit.spark_streaming.history.history_model import TableInMemory, check_rows, valid_at


def followed(source: Remembering, contract: Contract, mode: str, random: Random) -> TableInMemory:
    """The history of a source's table, taken in slices; not every commit is known at first."""
    table = TableInMemory(contract)
    slices = Slices(table, contract, no_rules("public", "films"), b"", mode)
    commits = [*(Lsn(lsn) for lsn, _ in source.states), Lsn(source.lsn + 8)]
    events = sorted(
        (event for some in by_partition(source).values() for event in some),
        key=lambda event: event.timestamp_ms,
    )
    known = 0
    while any(event.offset >= table.progress.offsets.get(event.partition, 0) for event in events):
        known = min(len(commits), known + random.randint(0, 6))

        def after(lsn: Lsn, upto: int = known) -> Lsn | None:
            place = bisect_right(commits, lsn)
            return commits[place] if place < upto else None

        left = [e for e in events if e.offset >= table.progress.offsets.get(e.partition, 0)]
        some: list[RawEvent] = left[: random.randint(1, 30)]
        for group in groups(dated(some, table.progress.reached, after)):
            slices.take(group)
    return table


@pytest.mark.parametrize("mode", ["each", "last"])
@pytest.mark.parametrize("partitions", [1, 3])
@settings(max_examples=examples(25))
@given(seed=st.integers(0, 2**32))
def test_at_each_commit_a_history_has_the_rows_that_the_source_had_then(
    mode: str, partitions: int, seed: int
) -> None:
    source, random = remembered(seed, KEYED, partitions, resyncs=True), Random(seed)
    rows = followed(source, KEYED, mode, random).table.to_pylist()
    check_rows(rows, mode)
    for number, (commit, content) in enumerate(source.states):
        is_last = number + 1 == len(source.states)
        upto = commit + 9 if is_last else source.states[number + 1][0] - 1
        for lsn in (commit, random.randint(commit, upto), upto):
            assert valid_at(rows, KEYED, lsn) == content, (seed, commit, lsn)


@settings(max_examples=examples(25))
@given(seed=st.integers(0, 2**32))
def test_the_slices_in_which_events_come_make_no_difference(seed: int) -> None:
    source = remembered(seed, KEYED, 1, resyncs=True)
    one, other = (
        followed(source, KEYED, "each", Random(seed + number)).table.to_pylist()
        for number in range(2)
    )
    assert sorted(one, key=repr) == sorted(other, key=repr), seed

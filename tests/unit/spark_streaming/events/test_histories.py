"""Random histories, split into random batches, end in the source's rows."""

from __future__ import annotations

from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import RawEvent
from tests.support.examples import examples
from tests.unit.model import BAG, KEYED, Source, fold_batches, history, split, split_apart

# Seeds instead of drawn choices give ten times the histories in the same time. Only the number of
# steps is drawn, so that a failing history shrinks.
SEEDS = st.integers(0, 2**32)
STEPS = st.integers(0, 60)
PARTITIONS = st.sampled_from([1, 2, 3])


def _check(source: Source, contract: Contract, batches: list[list[RawEvent]]) -> None:
    silver, rejects = fold_batches(batches, contract)
    assert [reject.reason for reject in rejects] == []
    assert silver.content() == source.content()


@settings(max_examples=examples(120))
@given(SEEDS, PARTITIONS, st.tuples(STEPS, STEPS), st.booleans())
def test_keyed_history_in_any_batches_ends_in_the_sources_rows(
    seed: int, partitions: int, steps: tuple[int, int], replays: bool
) -> None:
    random = Random(seed)
    source = history(random, KEYED, partitions, steps, replays=replays)
    _check(source, KEYED, split(source.finish(), random))


@settings(max_examples=examples(120))
@given(SEEDS, PARTITIONS, st.tuples(STEPS, STEPS), st.booleans())
def test_keyed_history_with_partitions_apart_ends_in_the_sources_rows(
    seed: int, partitions: int, steps: tuple[int, int], replays: bool
) -> None:
    random = Random(seed)
    source = history(random, KEYED, partitions, steps, replays=replays, toast=False)
    _check(source, KEYED, split_apart(source.finish(), random))


@settings(max_examples=examples(120))
@given(SEEDS, st.tuples(STEPS, STEPS), st.booleans())
def test_bag_history_in_any_batches_ends_in_the_sources_rows(
    seed: int, steps: tuple[int, int], replays: bool
) -> None:
    random = Random(seed)
    source = history(random, BAG, 1, steps, replays=replays)
    _check(source, BAG, split(source.finish(), random))


@settings(max_examples=examples(60))
@given(SEEDS, st.tuples(STEPS, STEPS), STEPS)
def test_keyed_table_that_is_snapshotted_again_ends_in_the_sources_rows(
    seed: int, steps: tuple[int, int], later: int
) -> None:
    random = Random(seed)
    source = history(random, KEYED, 1, steps, replays=False, toast=False)
    source.snapshot()  # while transactions are open, and others wait to be streamed
    for _ in range(later):
        source.step()
    _check(source, KEYED, split(source.finish(), random))


@settings(max_examples=examples(120))
@given(SEEDS, PARTITIONS, st.lists(STEPS, min_size=1, max_size=3), STEPS, st.booleans())
def test_a_first_snapshot_that_was_interrupted_leaves_nothing_behind(
    seed: int, partitions: int, attempts: list[int], later: int, apart: bool
) -> None:
    random = Random(seed)
    source = Source(random, KEYED, partitions, toast=False)
    for steps in attempts:
        for _ in range(steps):
            source.step()
        source.interrupted_snapshot()
    for _ in range(attempts[-1]):
        source.step()
    tried = len(source.stream)
    source.snapshot(first=True)
    begun = len(source.stream)
    assume(begun > tried)  # an empty table sends nothing, which no reader can notice
    for _ in range(later):
        source.step()
    events = source.finish()
    batches = split_apart(events[:begun], random) if apart else split(events[:begun], random)
    _check(source, KEYED, [*batches, *split(events[begun:], random)])


@settings(max_examples=examples(150))
@given(SEEDS, PARTITIONS, st.tuples(STEPS, STEPS), st.integers(0, 3), st.booleans())
def test_a_resync_under_writes_ends_in_the_sources_rows_whatever_was_lost_or_gained_before(
    seed: int, partitions: int, steps: tuple[int, int], within: int, apart: bool
) -> None:
    random = Random(seed)
    source = history(random, KEYED, partitions, steps, replays=False, toast=False)
    source.gain_rows()
    source.lose_rows()
    for _ in range(within):  # few, so that lost rows do not come back by chance
        source.step()
    source.resync(within)
    for _ in range(within):
        source.step()
    events = source.finish()
    _check(source, KEYED, split_apart(events, random) if apart else split(events, random))


@settings(max_examples=examples(60))
@given(SEEDS, st.tuples(STEPS, STEPS), st.integers(0, 8), st.integers(1, 3))
def test_resyncs_leave_large_values_that_updates_leave_out(
    seed: int, steps: tuple[int, int], within: int, resyncs: int
) -> None:
    random = Random(seed)
    source = history(random, KEYED, 1, steps, replays=False)
    for _ in range(resyncs):
        source.lose_rows()
        source.resync(within)
    for _ in range(steps[1]):
        source.step()
    _check(source, KEYED, split(source.finish(), random))


@settings(max_examples=examples(60))
@given(SEEDS, st.tuples(STEPS, STEPS), st.booleans())
def test_a_resync_of_a_bag_ends_in_the_sources_rows_also_where_none_is_left(
    seed: int, steps: tuple[int, int], empty: bool
) -> None:
    random = Random(seed)
    source = history(random, BAG, 1, steps, replays=False)
    source.gain_rows()
    source.lose_rows()
    if empty:
        while source.open:
            source.step()
        source.rows.clear()
    source.resync(0)
    for _ in range(steps[1]):
        source.step()
    _check(source, BAG, split(source.finish(), random))


@settings(max_examples=examples(40))
@given(SEEDS, st.tuples(STEPS, STEPS))
def test_one_batch_and_a_batch_an_event_give_the_same_rows(
    seed: int, steps: tuple[int, int]
) -> None:
    events = history(Random(seed), KEYED, 1, steps, replays=True).finish()
    whole, _ = fold_batches([events], KEYED)
    single, _ = fold_batches([[event] for event in events], KEYED)
    assert whole.content() == single.content()

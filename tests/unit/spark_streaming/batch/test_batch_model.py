"""Every crash and every interleaving of a batch's steps, of failing merges and of a rebuild's swap."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.explorer import Counterexample, explore
from tests.unit.spark_streaming.batch.batch_merges import RULES
from tests.unit.spark_streaming.batch.batch_model import Batches

# Two tables, slices, merges that fail; one table of which a rebuild is swapped in meanwhile.
FAILURES: dict[str, Any] = {"events": (3, 1), "rebuild": False, "pauses": 0}
SWAPS: dict[str, Any] = {"events": (2, 0), "failures": 1, "pauses": 1}
OF_SWAPS = {
    "a swap is noted first",
    "a rebuild names its own slices",
    "only positions of the newest rebuild count",
}


def test_a_driver_that_dies_anywhere_while_merges_fail_brings_each_event_into_silver_once() -> None:
    explored = explore(Batches(**FAILURES, crashes=1, failures=2))
    print(explored)
    assert explored.states > 30_000


def test_a_driver_that_dies_anywhere_in_a_rebuilds_swap_brings_each_event_into_silver_once() -> (
    None
):
    explored = explore(Batches(**SWAPS, crashes=2))
    print(explored)
    assert explored.states > 30_000


@pytest.mark.parametrize("rule", sorted(RULES))
def test_without_this_rule_the_search_finds_a_lost_or_a_doubled_event(rule: str) -> None:
    world = SWAPS if rule in OF_SWAPS else {**FAILURES, "events": (3, 0), "failures": 1}
    with pytest.raises(Counterexample) as found:
        explore(Batches(RULES - {rule}, **world, crashes=1))
    print(found.value)


def test_a_checkpoint_that_is_lost_between_batches_costs_nothing() -> None:
    world = {**FAILURES, "events": (2, 1), "failures": 1}
    explored = explore(Batches(**world, crashes=1, checkpoint_goes="between batches"))
    print(explored)
    assert explored.states > 2_000


def test_a_checkpoint_that_is_lost_in_the_middle_of_a_batch_doubles_events_without_a_key() -> None:
    world = {**FAILURES, "events": (2, 1), "failures": 0}
    with pytest.raises(Counterexample, match="no event is in silver twice") as found:
        explore(Batches(**world, crashes=1, checkpoint_goes="at any time"))
    print(found.value)
    assert "the checkpoint is lost" in found.value.history

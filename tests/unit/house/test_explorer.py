"""The search through a model's states finds the shortest bad history, dead ends and endless circles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.support.explorer import NEVER_DONE, STUCK, Counterexample, Properties, explore


class Numbers:
    """From 0, by the steps that `ways` gives; the work is done at 9."""

    def __init__(
        self, ways: Mapping[int, list[int]], always: Callable[[int], bool] = lambda _: True
    ) -> None:
        self.ways = ways
        self.always: Properties[int] = {"the number is good": always}
        self.at_rest: Properties[int] = {"the number is nine": lambda number: number == 9}

    def first(self) -> Iterator[int]:
        yield 0

    def steps(self, state: int) -> Iterator[tuple[str, int]]:
        yield from ((f"to {number}", number) for number in self.ways.get(state, []))

    def is_done(self, state: int) -> bool:
        return state == 9


def test_every_state_is_counted_once_and_every_step() -> None:
    explored = explore(Numbers({0: [1, 2], 1: [9], 2: [9, 1]}))
    assert (explored.seen, explored.steps) == ([0, 1, 2, 9], 5)


def test_the_shortest_history_that_breaks_a_property_is_told() -> None:
    ways = {0: [1, 4], 1: [2], 2: [3], 3: [5], 4: [5], 5: [9]}
    with pytest.raises(Counterexample, match="the number is good") as found:
        explore(Numbers(ways, lambda number: number != 5))
    assert found.value.history == ["to 4", "to 5"]


@pytest.mark.parametrize(
    ("ways", "broken"), [({0: [1, 9]}, STUCK), ({0: [9, 1], 1: [2], 2: [1]}, NEVER_DONE)]
)
def test_a_dead_end_and_a_circle_without_a_way_out_are_found(
    ways: dict[int, list[int]], broken: str
) -> None:
    with pytest.raises(Counterexample) as found:
        explore(Numbers(ways))
    assert (found.value.broken, found.value.history) == (broken, ["to 1"])


def test_a_model_that_is_not_small_is_refused() -> None:
    class Endless(Numbers):
        def steps(self, state: int) -> Iterator[tuple[str, int]]:
            yield "on", state + 1

    with pytest.raises(ValueError, match="more than 50 states"):
        explore(Endless({}), states_max=50)

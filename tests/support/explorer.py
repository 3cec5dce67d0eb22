"""Explores every state of a small model, breadth first, and prints the shortest way to a bad one.

A model is a set of states and the steps between them. A crash, a lost answer or another process is
a step like any other, so every interleaving is explored.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
# Words → whether they are true of a state.
Properties = Mapping[str, Callable[[S], bool]]


class Model(Protocol[S]):
    """A protocol as states and steps.

    `always` must be true of every state, `at_rest` of every state in which the protocol has done
    its work (`is_done`). A state that is done may still have steps: a crash, for instance.
    """

    always: Properties[S]
    at_rest: Properties[S]

    def first(self) -> Iterable[S]:
        """Return the states in which a history may begin."""
        ...

    def steps(self, state: S) -> Iterator[tuple[str, S]]:
        """Yield what may happen next, in words, and the state after it."""
        ...

    def is_done(self, state: S) -> bool:
        """Whether nothing is left to do."""
        ...


class Counterexample(AssertionError):
    """A property that a model breaks, and the shortest history that shows it.

    Args:
        broken: the property, in words.
        history: the steps from a first state to the one that breaks it.
    """

    def __init__(self, broken: str, history: list[str], state: object) -> None:
        self.broken = broken
        self.history = history
        steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(history, 1))
        super().__init__(f"broken: {broken}\n{steps}\n  then: {state}")


@dataclass(frozen=True)
class Explored(Generic[S]):
    """What an exploration saw: all of its states, in the order of the steps that lead there."""

    seen: list[S]
    steps: int

    @property
    def states(self) -> int:
        """The number of different states."""
        return len(self.seen)

    def __str__(self) -> str:
        return f"{self.states:,} states, {self.steps:,} steps"


STUCK = "nothing more can happen, and the work is not done"
NEVER_DONE = "from here on the work can never be done"


def explore(model: Model[S], *, states_max: int = 1_000_000) -> Explored[S]:
    """Visit every state that a model can reach.

    Raises:
        Counterexample: a property is broken; a state is stuck; or from one the end is out of reach.
        ValueError: there are more than `states_max` states: the model is no small one.
    """
    seen: dict[S, int] = {}
    states: list[S] = []
    came_from: list[tuple[int, str]] = []
    before: list[list[int]] = []  # of each state: those that have a step to it
    done: list[int] = []

    def visit(state: S, origin: int, step: str) -> int:
        number = seen.setdefault(state, len(states))
        if number == len(states):
            if number >= states_max:
                raise ValueError(f"the model has more than {states_max} states")
            states.append(state)
            came_from.append((origin, step))
            before.append([])
        return number

    def fail(broken: str, number: int) -> Counterexample:
        history = []
        at = number
        while came_from[at][0] >= 0:
            at, step = came_from[at]
            history.append(step)
        return Counterexample(broken, history[::-1], states[number])

    for state in model.first():
        visit(state, -1, "")
    count = number = 0
    while number < len(states):
        state = states[number]
        holds: list[Properties[S]] = [model.always]
        if model.is_done(state):
            done.append(number)
            holds.append(model.at_rest)
        for properties in holds:
            for words, is_true in properties.items():
                if not is_true(state):
                    raise fail(words, number)
        has_step = False
        for step, after in model.steps(state):
            has_step = True
            count += 1
            before[visit(after, number, step)].append(number)
        if not has_step and done[-1:] != [number]:
            raise fail(STUCK, number)
        number += 1
    lost = _cannot_reach(done, before)
    if lost is not None:
        raise fail(NEVER_DONE, lost)
    return Explored(states, count)


def _cannot_reach(goals: list[int], before: list[list[int]]) -> int | None:
    """Return the first state from which no goal can be reached; None if there is none."""
    reaches = [False] * len(before)
    for goal in goals:
        reaches[goal] = True
    open_ = list(goals)
    while open_:
        for earlier in before[open_.pop()]:
            if not reaches[earlier]:
                reaches[earlier] = True
                open_.append(earlier)
    return next((number for number, found in enumerate(reaches) if not found), None)

"""Every crash and every interleaving of packers, an erasure and a reader over one partition."""

from __future__ import annotations

import pytest

from tests.support.explorer import Counterexample, explore
from tests.unit.spark_streaming.compaction.packing_model import RULES, Packing

# How each rule is missed: without it these processes have a bad history.
WITHOUT: dict[str, tuple[tuple[str, ...], int]] = {
    "a packed object needs a free name": (("packer", "eraser"), 1),
    "the state is replaced only if it is as it was read": (("packer", "packer"), 0),
    "an unfinished erasure is waited for": (("packer", "eraser"), 0),
    "an erasure finishes what is being packed": (("packer", "eraser"), 0),
    "an erasure rewrites packed objects and those that they hold": (("packer", "eraser"), 0),
    "objects that changed are read again": (("packer", "eraser"), 0),
    "a small object is deleted after its packed one is there": (("packer",), 1),
    "the newest object stays": (("packer", "packer"), 0),
    "packed objects are listed after the others": (("packer", "reader"), 0),
    "readers ignore what a packed object holds": (("packer", "reader"), 0),
}


@pytest.mark.parametrize(
    ("roles", "crashes", "states"),
    [
        (("packer", "reader"), 1, 3_000),
        (("packer", "reader", "sink"), 0, 1_500),
        (("packer", "packer"), 0, 7_000),
        (("packer", "eraser"), 0, 5_000),
        pytest.param(("packer", "packer"), 1, 50_000, marks=pytest.mark.unhurried),
        pytest.param(("packer", "eraser"), 1, 60_000, marks=pytest.mark.unhurried),
    ],
    ids=["reader", "late put", "two packers", "erasure", "two packers killed", "erasure killed"],
)
def test_each_event_stays_and_is_read_once_whoever_dies(
    roles: tuple[str, ...], crashes: int, states: int
) -> None:
    explored = explore(Packing(*roles, crashes=crashes))
    print(explored)
    assert explored.states > states


@pytest.mark.parametrize("rule", sorted(RULES))
def test_without_this_rule_the_search_finds_a_bad_history(rule: str) -> None:
    roles, crashes = WITHOUT[rule]
    with pytest.raises(Counterexample) as found:
        explore(Packing(*roles, rules=RULES - {rule}, crashes=crashes))
    print(found.value)

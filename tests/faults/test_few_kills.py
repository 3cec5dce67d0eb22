"""A short soak on the stack that other tests use, too: random kills of the parts that hold positions."""

from __future__ import annotations

from tests.support.fault import Scene
from tests.support.soak import soak
from tests.support.stack import Stack

KILLS = 3
HOLD_POSITIONS = ("connect", "kafka", "silver")


def test_a_few_random_kills_of_the_parts_that_hold_positions_lose_nothing(
    stack: Stack, seed: int
) -> None:
    scene = Scene(stack)
    with scene.prepared():
        with scene.load(seed):
            seen = soak(scene, seed, KILLS, services=HOLD_POSITIONS)
        scene.prove()
    assert sum(seen.kills.values()) == KILLS

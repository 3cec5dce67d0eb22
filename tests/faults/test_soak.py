"""Services are killed at random under a mixed load: nothing is lost, and no process grows.

`./headwater fault soak --kills 100 --seed 7` prints what it saw; `--format json` for programs. The few kills
of the default run are of the services that hold positions, on the stack that other tests use, too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.fault import Scene, fault_scene
from tests.support.soak import soak
from tests.support.stack import Stack

KILLS = int(os.environ.get("HEADWATER_FAULT_KILLS") or 20)
HOURS = float(os.environ.get("HEADWATER_FAULT_HOURS") or 0)
SMOKE_KILLS = 3
HOLD_POSITIONS = ("connect", "kafka", "silver")


@pytest.mark.smoke
def test_a_few_kills_of_the_parts_that_hold_positions_lose_nothing(stack: Stack, seed: int) -> None:
    scene = Scene(stack)
    with scene.prepared(), scene.load(seed):
        seen = soak(scene, seed, SMOKE_KILLS, services=HOLD_POSITIONS)
        found = scene.prove()
    assert found == {"lost": 0, "duplicated": 0, "wrong": 0}
    assert sum(seen.kills.values()) == SMOKE_KILLS


@pytest.mark.slow
def test_a_soak_of_random_kills_loses_nothing(seed: int) -> None:
    with fault_scene() as scene:
        with scene.load(seed):
            seen = soak(scene, seed, KILLS, hours=HOURS)
        report = seen.report(seed, scene.prove())
    text = json.dumps(report, indent=1)
    print(text)
    if path := os.environ.get("HEADWATER_FAULT_OUT"):
        Path(path).write_text(text + "\n")
    assert {name: report[name] for name in ("lost", "duplicated", "wrong")} == {
        "lost": 0,
        "duplicated": 0,
        "wrong": 0,
    }

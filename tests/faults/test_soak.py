"""Services are killed at random under a mixed load: nothing is lost, and no process grows.

`./headwater fault soak --kills 100 --seed 7` prints what it saw; `--format json` for programs. A few such
kills on a shared stack are in `test_few_kills.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.fault import fault_scene
from tests.support.soak import soak

KILLS = int(os.environ.get("HEADWATER_FAULT_KILLS") or 20)
HOURS = float(os.environ.get("HEADWATER_FAULT_HOURS") or 0)


def test_a_soak_of_random_kills_loses_nothing(seed: int) -> None:
    with fault_scene() as scene:
        with scene.load(seed):
            seen = soak(scene, seed, KILLS, hours=HOURS)
        text = json.dumps(seen.report(seed, scene.compare()), indent=1)
        print(text)
        if path := os.environ.get("HEADWATER_FAULT_OUT"):
            Path(path).write_text(text + "\n")
        scene.prove()

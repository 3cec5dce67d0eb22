"""The alias `champion` moves only to a model that is better on the same hold-out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.models.tracking.champion import Figure, Measure, Rival, hold_out_of, verdict

ERROR = Measure("brier", smaller_is_better=True)
GAIN = Measure("ndcg_at_10", smaller_is_better=False)
SAME, OTHER = "a1", "b2"


@pytest.mark.parametrize(
    ("measure", "new", "old", "moves"),
    [
        (ERROR, 0.10, 0.11, True),
        (ERROR, 0.11, 0.10, False),
        (ERROR, 0.10, 0.10, False),
        (ERROR, 0.10, 0.10 + 1e-12, False),  # rounding
        (GAIN, 0.30, 0.29, True),
        (GAIN, 0.29, 0.30, False),
        (GAIN, 0.30, 0.30, False),
        (ERROR, math.nan, 0.10, False),
        (ERROR, math.inf, math.nan, False),
        (ERROR, 0.10, math.nan, True),
    ],
)
def test_only_a_better_model_becomes_champion(
    measure: Measure, new: float, old: float, moves: bool
) -> None:
    said = verdict(measure, Figure(new, SAME), Rival("3", Figure(old, SAME)))
    assert (said.moves, said.rival) == (moves, "3")
    if math.isfinite(new):
        assert f"{measure.name} {new:.6f} is {'' if moves else 'not '}better than" in said.why


def test_a_figure_on_another_hold_out_says_nothing() -> None:
    said = verdict(ERROR, Figure(0.1, SAME), Rival("3", Figure(0.9, OTHER)))
    assert not said.moves
    assert said.why == "version 3 was measured on another hold-out"


def test_the_first_model_and_one_whose_champion_is_of_no_use_become_champion() -> None:
    assert verdict(ERROR, Figure(0.1, SAME), None).moves
    said = verdict(ERROR, Figure(0.1, SAME), Rival("3", None, "knows other features"))
    assert (said.moves, said.why, said.rival) == (True, "version 3 knows other features", "3")
    assert not verdict(ERROR, Figure(math.nan, SAME), None).moves


def test_a_hold_out_is_known_by_its_cases_and_their_outcomes() -> None:
    ids, outcomes = np.array([1, 2, 3]), np.array([True, False, True])
    one = hold_out_of(ids, outcomes)
    assert one == hold_out_of(ids.copy(), outcomes.copy())
    assert one != hold_out_of(ids, ~outcomes)
    assert one != hold_out_of(ids[:2], outcomes[:2])
    assert one != hold_out_of(ids + 1, outcomes)

"""Planted tastes: an id always has the same taste, and no prediction is better than the limit."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from app.store.planted.hidden import Floats, Ids, normals, uniforms
from app.store.planted.tastes import (
    HARSHNESS,
    NOISE,
    QUALITY,
    TASTE,
    Tastes,
    draw_stars,
    expected_stars,
    least_rmse,
)

MANY = 200_000


def pairs(seed: int = 3) -> tuple[Ids, Ids]:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 5_000, MANY), rng.integers(1, 2_000, MANY)


def test_an_id_has_the_same_numbers_alone_and_among_others() -> None:
    ids = np.array([7, 1, 2**40, 7])
    together = normals(1, "customer", ids, 3)
    for place, one in enumerate(ids):
        assert (normals(1, "customer", np.array([one]), 3)[0] == together[place]).all()


def test_other_seeds_names_and_places_have_other_numbers() -> None:
    ids = np.arange(1, 1_000)
    drawn = [
        uniforms(1, "a", ids, 2)[:, 0],
        uniforms(1, "a", ids, 2)[:, 1],
        uniforms(2, "a", ids, 2)[:, 0],
        uniforms(1, "b", ids, 2)[:, 0],
    ]
    for first in range(len(drawn)):
        for second in range(first):
            assert abs(np.corrcoef(drawn[first], drawn[second])[0, 1]) < 0.12


def test_the_numbers_of_ids_in_a_row_are_normal() -> None:
    drawn = normals(1, "movie", np.arange(1, 50_001), 4)
    assert drawn.mean() == pytest.approx(0, abs=0.02)
    assert drawn.std() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03


def test_a_pair_has_the_same_wish_alone_and_among_others() -> None:
    tastes, (customers, movies) = Tastes(), pairs()
    together = tastes.wishes(customers[:50], movies[:50])
    alone = [tastes.wish(int(c), int(m)) for c, m in zip(customers[:50], movies[:50], strict=True)]
    assert together == pytest.approx(alone)


def test_wishes_differ_by_customer_by_movie_and_by_taste() -> None:
    wishes = Tastes().wishes(*pairs())
    assert wishes.std() == pytest.approx((HARSHNESS**2 + QUALITY**2 + TASTE**2) ** 0.5, rel=0.05)


def test_no_prediction_of_the_stars_is_better_than_their_mean_and_its_error_is_known() -> None:
    wishes = Tastes().wishes(*pairs())
    stars = draw_stars(np.random.default_rng(5), wishes)

    def rmse(prediction: Floats) -> float:
        return float(np.sqrt(((stars - prediction) ** 2).mean()))

    best = rmse(expected_stars(wishes))
    assert best == pytest.approx(least_rmse(wishes), rel=0.01)
    assert best < rmse(wishes) < NOISE * 1.2
    assert best < rmse(np.full(MANY, stars.mean())) * 0.7


def test_stars_drawn_one_by_one_are_those_of_the_many() -> None:
    tastes, rng = Tastes(), Random(1)
    one = [float(tastes.stars(rng, 4, 9)) for _ in range(4_000)]
    many = draw_stars(np.random.default_rng(1), np.full(4_000, tastes.wish(4, 9)))
    assert np.mean(one) == pytest.approx(float(many.mean()), abs=0.05)
    assert {star * 2 for star in one} <= set(range(1, 11))

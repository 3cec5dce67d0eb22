"""The best of each owner, in order and without known pairs, for any number of owners at a time."""

from __future__ import annotations

import numpy as np
import pytest

from app.models import best_lists
from app.models.best_lists import best_of_each, popularity
from app.models.interactions import Floats, Pairs, Places


@pytest.mark.parametrize("cells", [1, 90, 4_000_000])
def test_a_list_is_what_sorting_all_scores_without_the_known_pairs_gives(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_lists, "_CELLS_A_CHUNK", cells)
    generator = np.random.default_rng(5)
    scores = generator.normal(size=(50, 30))
    known = np.argwhere(generator.random(scores.shape) < 0.4).astype(np.int32)
    generator.shuffle(known)
    owners = np.flatnonzero(generator.random(50) < 0.6).astype(np.int32)
    found = best_of_each(
        owners, 30, lambda some: scores[some].copy(), (known[:, 0], known[:, 1]), length=5
    )
    left = scores.copy()
    left[known[:, 0], known[:, 1]] = -np.inf
    assert (found.best == np.argsort(-left[owners], axis=1)[:, :5]).all()


def test_a_list_ends_where_nothing_is_left() -> None:
    known = (np.zeros(3, dtype=np.int32), np.array([0, 1, 3], dtype=np.int32))
    found = best_of_each(np.array([0], dtype=np.int32), 4, _ones, known)
    assert found.best[0, 0] == 2
    assert (found.scores[0] > -np.inf).tolist() == [True, False, False, False]


def test_the_most_popular_movies_are_those_that_most_people_like_and_of_equals_the_lower_id() -> (
    None
):
    movies = np.array([0, 2, 2, 1, 3, 3], dtype=np.int32)
    pairs = Pairs(np.arange(6), np.arange(4), np.arange(6, dtype=np.int32), movies, np.ones(6))
    assert np.argsort(-popularity(pairs)).tolist() == [2, 3, 0, 1]


def _ones(some: Places) -> Floats:
    return np.ones((len(some), 4))

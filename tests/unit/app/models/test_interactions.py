"""Ratings before a model gets them: which are left out, which count, and how they are divided."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.errors import HeadwaterError
from app.models.interactions import clean_ratings, held_out, parts_of_each, rated, seen
from tests.support.planted import rating_table

HUGE = 2**40


def test_ratings_without_stars_or_ids_are_left_out_and_counted() -> None:
    table = rating_table(
        [
            (1, 10, 4.0, 1),
            (1, 11, None, 1),
            (1, 12, math.nan, 1),
            (1, 13, math.inf, 1),
            (None, 10, 3.0, 1),
            (2, None, 3.0, 1),
            (2, 10, 2.5, 1),
        ]
    )
    found = clean_ratings([table])
    assert list(zip(found.customers, found.movies, found.stars, strict=True)) == [
        (1, 10, 4.0),
        (2, 10, 2.5),
    ]
    assert found.dropped == {
        "without customer or movie": 2,
        "without stars": 3,
        "replaced by a newer one": 0,
    }


@pytest.mark.parametrize(
    ("of_table", "of_stream", "stars"), [(5, 9, 1.0), (9, 5, 4.0), (5, 5, 4.0)]
)
def test_of_a_pair_in_table_and_stream_the_newest_counts_and_of_equal_times_the_table(
    of_table: int, of_stream: int, stars: float
) -> None:
    table = rating_table([(1, 10, 4.0, of_table)])
    stream = rating_table([(1, 10, 2.0, 1), (1, 10, 1.0, of_stream)])
    found = clean_ratings([table, stream])
    assert found.stars.tolist() == [stars]
    assert found.dropped["replaced by a newer one"] == 2


@pytest.mark.parametrize("rows", [[], [(1, 10, None, 1)]])
def test_no_usable_rating_is_an_error_that_says_so(
    rows: list[tuple[object, object, object, object]],
) -> None:
    with pytest.raises(HeadwaterError, match="there is no rating to learn from") as raised:
        clean_ratings([rating_table(rows)])
    assert raised.value.detail == f"observed {len(rows)} rows, of which 0 are usable"


def test_ids_beyond_32_bits_become_places() -> None:
    ratings = clean_ratings([rating_table([(HUGE, -5, 4.0, 1), (3, HUGE + 1, 2.0, 1)])])
    pairs = rated(ratings)
    assert pairs.customer_ids.tolist() == [3, HUGE]
    assert pairs.movie_ids.tolist() == [-5, HUGE + 1]
    assert (pairs.customers.tolist(), pairs.movies.tolist()) == ([0, 1], [1, 0])


def test_a_pair_counts_as_liked_from_four_stars_or_when_it_was_bought() -> None:
    ratings = clean_ratings([rating_table([(1, 10, 4.0, 1), (1, 11, 3.5, 1), (1, 12, 1.0, 1)])])
    bought = (np.array([1, 1, 2]), np.array([12, 12, 11]))
    pairs = seen(ratings, bought)
    found = {
        (int(pairs.customer_ids[c]), int(pairs.movie_ids[m])): value
        for c, m, value in zip(pairs.customers, pairs.movies, pairs.values, strict=True)
    }
    assert found == {(1, 10): 1.0, (1, 11): 0.0, (1, 12): 1.0, (2, 11): 1.0}


def test_a_quarter_of_each_customers_ratings_is_held_out_the_same_ones_each_time() -> None:
    owners = np.repeat(np.arange(5, dtype=np.int32), [1, 4, 8, 40, 3])
    out = held_out(owners, seed=7)
    assert np.bincount(owners, weights=out).tolist() == [0, 1, 2, 10, 1]
    assert (out == held_out(owners, seed=7)).all()
    assert (out != held_out(owners, seed=8)).any()


def test_folds_divide_each_customers_ratings_evenly() -> None:
    owners = np.repeat(np.arange(60, dtype=np.int32), 7)
    fold = parts_of_each(owners, 1, 3)
    sizes = [[int(((owners == one) & (fold == n)).sum()) for n in range(3)] for one in range(60)]
    assert all(sorted(each) == [2, 2, 3] for each in sizes)
    assert (np.bincount(fold) > 130).all()

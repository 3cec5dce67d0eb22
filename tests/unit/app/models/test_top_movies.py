"""Top movies are the best of the most-rated ones; few ratings are pulled towards the mean."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from app.models import top_movies as module
from app.models.averages import fit_averages
from app.models.interactions import clean_ratings, rated
from app.models.top_movies import top_movies
from tests.support.planted import rating_table


def described(*ids: int) -> pa.Table:
    return pa.table(
        {
            "movie_id": pa.array(ids, pa.int64()),
            "title": [f"movie {one}" for one in ids],
            "release_year": pa.array([2000 + one % 20 for one in ids], pa.int16()),
        }
    )


def test_one_rating_of_five_stars_does_not_lead() -> None:
    rows = [(c, 1, 4.5, 1) for c in range(40)] + [(c, 2, 1.0, 1) for c in range(40)]
    ratings = clean_ratings([rating_table([*rows, (1, 3, 5.0, 1)])])
    found = top_movies(ratings, described(1, 2, 3)).to_pylist()
    # All of them: (40 · 4.5 + 40 · 1 + 5) / 81 = 225 / 81, and ten such ratings more for each.
    overall = round(Decimal(225) / 81, 4)
    weighted = [(180 + 10 * overall) / 50, (5 + 10 * overall) / 11, (40 + 10 * overall) / 50]
    assert [row["movie_id"] for row in found] == [1, 3, 2]
    assert [row["weighted_stars"] for row in found] == [round(one, 4) for one in weighted]
    assert [row["average_stars"] for row in found] == [Decimal("4.5"), Decimal(5), Decimal(1)]
    assert [row["rank"] for row in found] == [1, 2, 3]


def test_the_mean_of_all_has_four_places_before_it_is_added_as_in_the_view() -> None:
    rows = [(1, 1, 1.0, 1), (2, 1, 1.0, 1), (3, 2, 5.0, 1)]
    found = top_movies(clean_ratings([rating_table(rows)]), described(1, 2)).to_pylist()
    # (5 + 10 · 2.3333) / 11; with all places of 7 / 3 it would be 2.5758.
    assert found[0]["weighted_stars"] == Decimal("2.5757")


def test_only_the_most_rated_movies_that_are_described_take_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [(c, 1, 3.0, 1) for c in range(3)] + [(c, 2, 4.0, 1) for c in range(2)]
    rows += [(1, 3, 5.0, 1), *((c, 4, 5.0, 1) for c in range(9))]
    ratings = clean_ratings([rating_table(rows)])
    monkeypatch.setattr(module, "MOST_RATED", 2)
    found = top_movies(ratings, described(1, 2, 3))
    assert sorted(found["movie_id"].to_pylist()) == [1, 2]
    assert found["ratings"].to_pylist() == [2, 3]


def test_averages_of_few_ratings_lie_nearer_to_the_mean() -> None:
    rows = [(c, 1, 5.0, 1) for c in range(100)] + [(c, 2, 1.0, 1) for c in range(100)]
    found = fit_averages(rated(clean_ratings([rating_table([*rows, (0, 3, 5.0, 1)])])))
    often, _, once = found.movies
    assert often > 3 * once > 0

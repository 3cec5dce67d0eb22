"""Ranks movies by their stars: `python -m app.models.top_movies` writes `ml.top_movies`.

It takes the thousand movies with the most ratings, and keeps the hundred with the best weighted mean. The weighted
mean adds ten ratings at the mean of all these movies to a movie's own, so that a few high ratings do not win. The
view `reports.best_rated_movies` has the same rule; this program also counts the ratings of the stream.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pyarrow as pa
from deltalake.exceptions import DeltaError

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.report import report
from app.models.interactions import Ratings
from app.models.model_tables import ModelTables
from app.models.silver_ratings import read_ratings
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError

MOST_RATED, BEST = 1000, 100
ADDED_RATINGS = 10
_PLACES = Decimal("0.0001")
_STARS = pa.decimal128(12, 4)


def top_movies(ratings: Ratings, movies: pa.Table) -> pa.Table:
    """Rank the best of the most-rated movies.

    Args:
        movies: `movie_id`, `title`, `release_year`; others do not count.
    Returns: `rank` (from 1), `movie_id`, `title`, `release_year`, `average_stars`, `weighted_stars`, `ratings`.
        Equal weighted means are ranked by ratings, then by movie_id.
    """
    described = {row["movie_id"]: row for row in movies.to_pylist()}
    kept = np.isin(ratings.movies, list(described))
    ids, place, counts = np.unique(ratings.movies[kept], return_inverse=True, return_counts=True)
    # Stars are halves: twice their sum is exact.
    sums = np.bincount(place, weights=np.rint(2 * ratings.stars[kept]), minlength=len(ids))
    most = np.lexsort((ids, -counts))[:MOST_RATED]
    means = {int(ids[i]): _rounded(Decimal(int(sums[i])) / 2 / int(counts[i])) for i in most}
    count_of = {int(ids[i]): int(counts[i]) for i in most}
    total = sum(count_of.values())
    overall = _rounded(sum(means[one] * count_of[one] for one in means) / Decimal(max(total, 1)))

    def weighted(one: int) -> Decimal:
        sum_of = means[one] * count_of[one] + ADDED_RATINGS * overall
        return _rounded(sum_of / (count_of[one] + ADDED_RATINGS))

    best = sorted(means, key=lambda one: (-weighted(one), -count_of[one], one))[:BEST]
    return pa.table(
        {
            "rank": pa.array(range(1, len(best) + 1), pa.int64()),
            "movie_id": pa.array(best, pa.int64()),
            "title": pa.array([described[one]["title"] for one in best], pa.string()),
            "release_year": pa.array([described[one]["release_year"] for one in best], pa.int16()),
            "average_stars": pa.array([means[one] for one in best], _STARS),
            "weighted_stars": pa.array([weighted(one) for one in best], _STARS),
            "ratings": pa.array([count_of[one] for one in best], pa.int64()),
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Rank the movies of this home's lake; exit 1 with a short message if it cannot."""
    argparse.ArgumentParser(prog="python -m app.models.top_movies").parse_args(arguments)
    try:
        tables = ModelTables(Lake(load().store).for_writing())
        movies = tables.read("movies", ["movie_id", "title", "release_year"])
        ratings = read_ratings(tables)
        found = top_movies(ratings, movies)
        tables.replace("top_movies", found)
    except (HeadwaterError, SettingsError, DeltaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    values = {"ratings": len(ratings), "rows_written": len(found)}
    report(**values)
    print(json.dumps(values))
    return 0


def _rounded(number: Decimal) -> Decimal:
    return number.quantize(_PLACES, rounding=ROUND_HALF_UP)


if __name__ == "__main__":
    sys.exit(main())

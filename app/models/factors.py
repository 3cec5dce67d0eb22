"""Factors of customers and movies, found by Spark MLlib's ALS."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from app.models.interactions import Floats, Mask, Pairs, Places

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FITS_AT_ONCE = 2  # a small fit waits more for its own stages than it computes
PAIRS_A_BLOCK = 250_000


@dataclass(frozen=True)
class AlsOptions:
    """The options of a fit.

    Args:
        rank: how many factors.
        regularisation: MLlib multiplies it by the number of a customer's or a movie's pairs.
        alpha: confidence that a pair adds, for implicit ALS; None for explicit ALS.
    """

    rank: int
    regularisation: float
    alpha: float | None = None
    iterations: int = 10
    seed: int = 1

    def __str__(self) -> str:
        implicit = "" if self.alpha is None else f", alpha {self.alpha:g}"
        return f"rank {self.rank}, regularisation {self.regularisation:g}{implicit}"


@dataclass(frozen=True)
class Factors:
    """A row of `rank` numbers for each customer and each movie, by index.

    A customer or movie without a pair has zeros, so its score is 0.
    """

    customers: Floats
    movies: Floats
    known_customers: Mask
    known_movies: Mask

    def of_pairs(self, customers: Places, movies: Places) -> Floats:
        """Return the score of each pair."""
        return np.einsum("ij,ij->i", self.customers[customers], self.movies[movies])


def fit_factors(spark: SparkSession, pairs: Pairs, options: AlsOptions) -> Factors:
    """Fit ALS to the values of the pairs; not empty."""
    from pyspark.ml.recommendation import ALS

    table = pa.table(
        {
            "customer": pairs.customers,
            "movie": pairs.movies,
            "value": pairs.values.astype(np.float32),
        }
    )
    blocks = max(2, -(-len(pairs) // PAIRS_A_BLOCK))
    als = ALS(
        rank=options.rank,
        regParam=options.regularisation,
        maxIter=options.iterations,
        seed=options.seed,
        implicitPrefs=options.alpha is not None,
        alpha=options.alpha or 1.0,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        userCol="customer",
        itemCol="movie",
        ratingCol="value",
    )
    model: Any = als.fit(spark.createDataFrame(table))
    customers, known_customers = _rows(model.userFactors, len(pairs.customer_ids), options.rank)
    movies, known_movies = _rows(model.itemFactors, len(pairs.movie_ids), options.rank)
    return Factors(customers, movies, known_customers, known_movies)


def fit_several(spark: SparkSession, fits: Sequence[tuple[Pairs, AlsOptions]]) -> list[Factors]:
    """Fit several, two at a time."""
    with ThreadPoolExecutor(FITS_AT_ONCE) as pool:
        return list(pool.map(lambda one: fit_factors(spark, *one), fits))


def _rows(frame: Any, count: int, rank: int) -> tuple[Floats, Mask]:
    table = frame.toArrow()
    places = table["id"].to_numpy()
    found = table["features"].combine_chunks().flatten().to_numpy().reshape(-1, rank)
    rows, known = np.zeros((count, rank)), np.zeros(count, dtype=np.bool_)
    rows[places], known[places] = found, True
    return rows, known

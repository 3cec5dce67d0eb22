"""Ratings with the demo store's planted tastes, without a database."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.models.interactions import Ratings, clean_ratings
from app.store.planted.tastes import draw_stars, least_rmse
from app.store.tables.grow import RATINGS_A_MOVIE, choose_movies


@dataclass(frozen=True)
class Planted:
    """Ratings as `store grow` draws them, and the least RMSE that any model can have."""

    ratings: Ratings
    least_rmse: float


def rating_table(rows: Sequence[tuple[object, object, object, object]]) -> pa.Table:
    """Rows of customer, movie, stars and the second of the rating, in silver's form."""
    columns: list[tuple[object, ...]] = list(zip(*rows, strict=True)) or [()] * 4
    return pa.table(
        {
            "customer_id": pa.array(columns[0], pa.int64()),
            "movie_id": pa.array(columns[1], pa.int64()),
            "stars": pa.array(columns[2], pa.float64()),
            "rated_at": pa.array(columns[3], pa.int64()).cast(pa.timestamp("s", "UTC")),
        }
    )


def planted(count: int, seed: int = 1, first_customer: int = 1) -> Planted:
    """Draw this many ratings, customer by customer."""
    generator = np.random.default_rng(seed)
    movies = np.arange(1, max(RATINGS_A_MOVIE, math.ceil(count / RATINGS_A_MOVIE)) + 1)
    found: list[pa.Table] = []
    squares, left, customer_id = 0.0, count, first_customer
    while left > 0:
        chosen, wishes = choose_movies(generator, customer_id, movies)
        chosen, wishes = chosen[:left], wishes[:left]
        squares += len(chosen) * least_rmse(wishes) ** 2
        found.append(
            pa.table(
                {
                    "customer_id": np.full(len(chosen), customer_id),
                    "movie_id": chosen,
                    "stars": draw_stars(generator, wishes),
                    "rated_at": pa.array([0] * len(chosen), pa.timestamp("us", "UTC")),
                }
            )
        )
        left, customer_id = left - len(chosen), customer_id + 1
    return Planted(clean_ratings([pa.concat_tables(found)]), math.sqrt(squares / count))

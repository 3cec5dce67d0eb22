"""Reads ratings and purchases from silver: from the table `ratings`, the stream `rating_events` and orders."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from app.models.interactions import RATING_COLUMNS, Ids, Ratings, clean_ratings
from app.models.model_tables import ModelTables


def read_ratings(tables: ModelTables) -> Ratings:
    """Read all ratings; if a pair has several, the newest counts, from table or stream."""
    found = [tables.read("ratings", RATING_COLUMNS)]
    stream = tables.read_if_there("rating_events", RATING_COLUMNS)
    return clean_ratings(found if stream is None else [*found, stream])


def read_bought(tables: ModelTables) -> tuple[Ids, Ids]:
    """Read the customer and the movie of each line of an order that was not cancelled."""
    orders = tables.read("orders", ["order_id", "customer_id", "status"])
    lines = tables.read("order_lines", ["order_id", "movie_id"])
    kept = orders.filter(pc.not_equal(orders["status"], "cancelled"))
    joined = lines.join(kept, "order_id", join_type="inner")
    return joined["customer_id"].to_numpy(), joined["movie_id"].to_numpy()


def read_offered(tables: ModelTables) -> Ids:
    """Read the ids of the movies that are available."""
    movies = tables.read("movies", ["movie_id", "available"])
    return np.unique(movies.filter(movies["available"])["movie_id"].to_numpy())


def read_customers(tables: ModelTables) -> Ids:
    """Read the ids of all customers."""
    return np.unique(tables.read("customers", ["customer_id"])["customer_id"].to_numpy())

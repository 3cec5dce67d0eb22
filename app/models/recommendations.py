"""The published lists: movies for each customer, customers for each movie."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from app.models.best_lists import Lists, best_of_each
from app.models.interactions import Floats, Ids, Pairs, Places
from app.models.lists_model import ListsModel
from app.models.stars_model import StarsModel


def recommended_movies(
    model: ListsModel, stars: StarsModel, ratings: Pairs, seen: Pairs, customers: Ids, offered: Ids
) -> pa.Table:
    """Make the best ten movies of each customer, without those that were rated or bought.

    Args:
        stars: fitted to `ratings`.
        seen: the pairs that `model` was fitted to; they are left out of the lists.
        customers: those who get a list; a customer unknown to the model gets the most popular movies.
        offered: the movies that may be in a list.
    Returns: `customer_id`, `rank` (from 1), `movie_id`, `score` (of the list's own method),
        `predicted_stars` (NULL for a movie without ratings), `method` (als, most popular).
    """
    all_customers, places = _with_newcomers(seen.customer_ids, customers)
    known = np.zeros(len(all_customers), dtype=np.bool_)
    known[: len(seen.customer_ids)] = model.factors.known_customers
    left_out = ~np.isin(seen.movie_ids, offered)

    def scores(some: Places) -> Floats:
        of_model = np.minimum(some, len(seen.customer_ids) - 1)
        found = model.scores(of_model)
        found[~known[some]] = model.popular
        found[:, left_out] = -np.inf
        return found

    owners = np.sort(places)
    lists = best_of_each(owners, len(seen.movie_ids), scores, (seen.customers, seen.movies))
    owner, rank, best, score = _rows(owners, lists)
    method = np.where(known[owner], "als", "most popular")
    predicted = _stars(stars, ratings, all_customers[owner], seen.movie_ids[best])
    return pa.table(
        {
            "customer_id": all_customers[owner],
            "rank": rank,
            "movie_id": seen.movie_ids[best],
            "score": score,
            "predicted_stars": pa.array(predicted, from_pandas=True),
            "method": pa.array(method.tolist(), pa.string()),
        }
    )


def recommended_customers(model: ListsModel, seen: Pairs, customers: Ids, offered: Ids) -> pa.Table:
    """Make the best ten customers of each movie, without those who rated or bought it.

    A movie that nobody has liked or bought yet has no list.
    Returns: `movie_id`, `rank` (from 1), `customer_id`, `score`.
    """
    factors = model.factors
    movies = np.flatnonzero(factors.known_movies & np.isin(seen.movie_ids, offered))
    left_out = ~(factors.known_customers & np.isin(seen.customer_ids, customers))

    def scores(some: Places) -> Floats:
        found = factors.movies[some] @ factors.customers.T
        found[:, left_out] = -np.inf
        return found

    owners = movies.astype(np.int32)
    lists = best_of_each(owners, len(seen.customer_ids), scores, (seen.movies, seen.customers))
    owner, rank, best, score = _rows(owners, lists)
    return pa.table(
        {
            "movie_id": seen.movie_ids[owner],
            "rank": rank,
            "customer_id": seen.customer_ids[best],
            "score": score,
        }
    )


def _with_newcomers(known: Ids, wanted: Ids) -> tuple[Ids, Places]:
    """Append the wanted ids that are unknown; return all ids, and the indexes of the wanted ones."""
    newcomers = np.setdiff1d(wanted, known)
    places = np.flatnonzero(np.isin(known, wanted))
    new = len(known) + np.arange(len(newcomers))
    return np.concatenate([known, newcomers]), np.concatenate([places, new]).astype(np.int32)


def _rows(owners: Places, lists: Lists) -> tuple[Places, Places, Ids, Floats]:
    """Turn lists into rows without the empty places: owner, rank, recommended item, score."""
    row, place = np.nonzero(lists.scores > -np.inf)
    best, scores = lists.best[row, place], lists.scores[row, place]
    return owners[row], (place + 1).astype(np.int32), best, scores


def _stars(model: StarsModel, ratings: Pairs, customers: Ids, movies: Ids) -> Floats:
    """Predicted stars; a customer without ratings counts as average, a movie without ratings has NaN."""
    customer = np.searchsorted(ratings.customer_ids, customers)
    movie = np.searchsorted(ratings.movie_ids, movies)
    customer_at = np.minimum(customer, len(ratings.customer_ids) - 1).astype(np.int32)
    movie_at = np.minimum(movie, len(ratings.movie_ids) - 1).astype(np.int32)
    rated_movie = ratings.movie_ids[movie_at] == movies
    rates = ratings.customer_ids[customer_at] == customers
    usual = np.clip(model.averages.mean + model.averages.movies[movie_at], 0.5, 5.0)
    predicted = np.where(rates, model.of_pairs(customer_at, movie_at), usual)
    predicted[~rated_movie] = np.nan
    return predicted

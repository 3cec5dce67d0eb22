"""Predicts stars from averages alone: the mean, a customer's harshness, a movie's quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.models.interactions import Floats, Pairs, Places

# This many ratings at the mean are added to each customer's and each movie's own.
CUSTOMER_DAMPING, MOVIE_DAMPING = 5.0, 10.0
SWEEPS = 5


@dataclass(frozen=True)
class Averages:
    """The mean of all stars, and the deviation of each customer and each movie from it."""

    mean: float
    customers: Floats
    movies: Floats

    def of_pairs(self, customers: Places, movies: Places) -> Floats:
        """Return the stars that averages predict for each pair; they may be outside of the range of stars."""
        return self.mean + self.customers[customers] + self.movies[movies]


def fit_averages(pairs: Pairs) -> Averages:
    """Fit both kinds of averages to each other's residuals, in turn; without ratings a deviation is 0."""
    rest = pairs.values - (mean := float(pairs.values.mean()))
    customers: Floats = np.zeros(len(pairs.customer_ids))
    movies: Floats = np.zeros(len(pairs.movie_ids))
    for _ in range(SWEEPS):
        movies = _damped(
            rest - customers[pairs.customers], pairs.movies, len(movies), MOVIE_DAMPING
        )
        customers = _damped(
            rest - movies[pairs.movies], pairs.customers, len(customers), CUSTOMER_DAMPING
        )
    return Averages(mean, customers, movies)


def _damped(rest: Floats, places: Places, count: int, damping: float) -> Floats:
    sums = np.bincount(places, weights=rest, minlength=count)
    return sums / (np.bincount(places, minlength=count) + damping)

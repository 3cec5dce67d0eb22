"""Planted tastes: how many stars a customer gives a movie, and how well that can be predicted.

    wish = MEAN + harshness of the customer + quality of the movie + taste of one · style of the other
    stars = wish + noise, rounded to half stars from 0.5 to 5.0

Taste and style are vectors of FACTORS numbers; all of them follow from the ids (`hidden`). Nothing of it is
in the database, so a model finds it in the stars or nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from random import Random

import numpy as np

from app.store.planted.hidden import Floats, Ids, normals

SEED = 1  # of all stores: seed, workload and generator must agree on the tastes
FACTORS = 4
MEAN = 3.4
HARSHNESS, QUALITY = 0.35, 0.40  # deviations, in stars
TASTE = 0.90
NOISE = 0.50
CHOOSES = 0.8  # how often a choice of two follows the taste
LEVELS = np.arange(1, 11) / 2  # the possible stars
# The mean and variance of stars by their wish, on a grid.
_WISHES = np.arange(-4.0, 10.0, 0.005)


class Tastes:
    """The planted tastes of a seed."""

    def __init__(self, seed: int = SEED) -> None:
        self._seed = seed
        self._one = lru_cache(maxsize=100_000)(self._numbers)

    def wishes(self, customers: Ids, movies: Ids) -> Floats:
        """Return the wish of each pair, in stars, before noise and rounding."""
        mine, theirs = self._all("customer", customers), self._all("movie", movies)
        both = np.einsum("ij,ij->i", mine[:, 1:], theirs[:, 1:])
        return MEAN + HARSHNESS * mine[:, 0] + QUALITY * theirs[:, 0] + _strength() * both

    def wish(self, customer_id: int, movie_id: int) -> float:
        """Return the wish of one pair."""
        mine, theirs = self._one("customer", customer_id), self._one("movie", movie_id)
        both = sum(a * b for a, b in zip(mine[1:], theirs[1:], strict=True))
        return MEAN + HARSHNESS * mine[0] + QUALITY * theirs[0] + _strength() * both

    def stars(self, rng: Random, customer_id: int, movie_id: int) -> Decimal:
        """Draw the stars that a customer gives a movie now."""
        halves = round(2 * (self.wish(customer_id, movie_id) + rng.gauss(0, NOISE)))
        return Decimal(min(max(halves, 1), 10)) / 2

    def liked(self, rng: Random, customer_id: int, draw: Callable[[], int]) -> int:
        """Choose a movie: of two that are drawn mostly the one that the customer would like more."""
        first, second = draw(), draw()
        if rng.random() > CHOOSES:
            return first
        return max(first, second, key=lambda movie_id: self.wish(customer_id, movie_id))

    def _all(self, kind: str, ids: Ids) -> Floats:
        """Each id's numbers: its harshness or quality, then its vector."""
        distinct, place = np.unique(ids, return_inverse=True)
        return normals(self._seed, kind, distinct, 1 + FACTORS)[place]

    def _numbers(self, kind: str, one: int) -> Sequence[float]:
        found: list[float] = normals(self._seed, kind, np.array([one]), 1 + FACTORS)[0].tolist()
        return found


TASTES = Tastes()


def draw_stars(generator: np.random.Generator, wishes: Floats) -> Floats:
    """Draw the stars of many wishes."""
    halves = np.rint(2 * (wishes + generator.normal(0, NOISE, len(wishes))))
    return np.clip(halves, 1, 10) / 2


def expected_stars(wishes: Floats) -> Floats:
    """Return the mean of the stars that a wish leads to: no prediction has a smaller squared error."""
    return np.interp(wishes, _WISHES, _moments()[0])


def least_rmse(wishes: Floats) -> float:
    """Return the root of the mean squared error of that best prediction."""
    return math.sqrt(float(np.interp(wishes, _WISHES, _moments()[1]).mean()))


def _strength() -> float:
    # The product of two vectors of normal numbers has the deviation √FACTORS.
    return TASTE / math.sqrt(FACTORS)


@lru_cache(maxsize=1)
def _moments() -> tuple[Floats, Floats]:
    """The mean and the variance of stars for each of _WISHES."""
    bounds = [-math.inf, *(float(level) + 0.25 for level in LEVELS[:-1]), math.inf]
    below = np.array(
        [[_normal_below(float(bound - wish) / NOISE) for bound in bounds] for wish in _WISHES]
    )
    shares = np.diff(below, axis=1)
    mean = shares @ LEVELS
    return mean, shares @ LEVELS**2 - mean**2


def _normal_below(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))

"""Ranks movies for customers, and customers for movies: implicit ALS on what was liked or bought."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.errors import HeadwaterError
from app.models.best_lists import LENGTH, best_of_each, popularity
from app.models.factors import AlsOptions, Factors, fit_factors, fit_several
from app.models.interactions import Floats, Pairs, Places, held_out, parts_of_each
from app.models.option_search import OptionSearch, Told
from app.models.ranking_metrics import ndcg, recall
from app.models.stars_model import FINAL_ITERATIONS, FOLDS, HELD_OUT_MIN

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Scores = Callable[[Places], Floats]


@dataclass(frozen=True)
class ListsChoices:
    """The options from which cross-validation chooses."""

    ranks: tuple[int, ...] = (8, 16)
    regularisations: tuple[float, ...] = (0.1, 0.02)
    alphas: tuple[float, ...] = (3.0, 1.0, 10.0)


ALL_CHOICES = ListsChoices()


@dataclass(frozen=True)
class ListsModel:
    """Factors of customers who have liked or bought something, and the popularity of each movie."""

    factors: Factors
    popular: Floats

    def scores(self, customers: Places) -> Floats:
        """Return the scores as (customers, movies); an unknown customer gets the movies' popularity."""
        found = self.factors.customers[customers] @ self.factors.movies.T
        found[:, ~self.factors.known_movies] = -np.inf
        found[~self.factors.known_customers[customers]] = self.popular
        return found


@dataclass(frozen=True)
class ListsReport:
    """The quality of lists, measured on held-out pairs.

    Args:
        model: fitted to `train`.
        quality: method → mean nDCG@10 and recall@10 of the customers with a liked movie held out.
        tried: options → nDCG@10 of the cross-validation.
    """

    train: Pairs
    test: Pairs
    model: ListsModel
    options: AlsOptions
    quality: dict[str, tuple[float, float]]
    tried: dict[str, float]


def judge_lists(
    spark: SparkSession,
    seen: Pairs,
    seed: int,
    choices: ListsChoices = ALL_CHOICES,
    told: Told = lambda _: None,
) -> ListsReport:
    """Choose options by cross-validation in three quarters of each customer's pairs; test on the rest.

    Args:
        seen: `interactions.seen`: 1 for liked or bought movies, 0 for movies that were only rated.
    Raises: HeadwaterError if too few liked movies can be held out.
    """
    out = held_out(seen.customers, seed)
    train, test = seen.only(~out), seen.only(out)
    liked = int(test.values.sum())
    if liked < HELD_OUT_MIN:
        raise HeadwaterError(
            "there are too few liked or bought movies to test a list",
            detail=f"of {len(seen):,} pairs of customer and movie {liked:,} that are held out were "
            f"liked or bought; at least {HELD_OUT_MIN} are needed",
            hint="`./headwater store grow` adds ratings and orders",
        )
    options, tried = choose_options(spark, train, seed, choices, told)
    model = fit_lists(spark, train, options)
    popular = np.broadcast_to(model.popular, (1, len(model.popular)))
    customers = np.unique(test.customers[test.values > 0])
    quality = {
        "als": list_quality(customers, model.scores, train, test),
        "most popular": list_quality(
            customers, lambda some: np.repeat(popular, len(some), axis=0), train, test
        ),
    }
    return ListsReport(train, test, model, options, quality, tried)


def fit_lists(spark: SparkSession, seen: Pairs, options: AlsOptions) -> ListsModel:
    """Fit implicit ALS to the pairs that were liked or bought."""
    liked = seen.only(seen.values > 0)
    final = replace(options, iterations=FINAL_ITERATIONS)
    return ListsModel(fit_factors(spark, liked, final), popularity(liked))


def choose_options(
    spark: SparkSession, seen: Pairs, seed: int, choices: ListsChoices, told: Told
) -> tuple[AlsOptions, dict[str, float]]:
    """Choose the confidence first, then the regularisation, then the rank, each by nDCG@10 over all folds."""
    fold = parts_of_each(seen.customers, seed, FOLDS)
    search = OptionSearch(
        lambda one: _validated(spark, seen, fold, one), "lists", f"nDCG@{LENGTH}", max, told
    )
    rank, regularisation = choices.ranks[0], choices.regularisations[0]
    chosen = search.best_of(
        [AlsOptions(rank, regularisation, each, seed=seed) for each in choices.alphas]
    )
    chosen = search.best_of(
        [replace(chosen, regularisation=each) for each in choices.regularisations]
    )
    chosen = search.best_of([replace(chosen, rank=each) for each in choices.ranks])
    return chosen, search.tried()


def list_quality(
    customers: Places, scores_of: Scores, train: Pairs, test: Pairs
) -> tuple[float, float]:
    """Return mean nDCG@10 and recall@10 of the lists, without the pairs of `train`.

    Args:
        customers: those with at least one liked movie in `test`.
    """
    count = len(train.movie_ids)
    lists = best_of_each(customers, count, scores_of, (train.customers, train.movies))
    liked = test.only(test.values > 0)
    wanted = np.unique(liked.customers.astype(np.int64) * count + liked.movies)
    hits = np.isin(customers[:, None].astype(np.int64) * count + lists.best, wanted)
    hits &= lists.scores > -np.inf
    relevant = np.bincount(liked.customers, minlength=len(train.customer_ids))[customers]
    both = relevant.astype(np.float64)
    return float(ndcg(hits, both).mean()), float(recall(hits, both).mean())


def _validated(spark: SparkSession, seen: Pairs, fold: Places, options: AlsOptions) -> float:
    parts = [(seen.only(fold != n), seen.only(fold == n)) for n in range(FOLDS)]
    liked = [train.only(train.values > 0) for train, _ in parts]
    found = []
    fits = fit_several(spark, [(pairs, options) for pairs in liked])
    for (train, test), pairs, factors in zip(parts, liked, fits, strict=True):
        model = ListsModel(factors, popularity(pairs))
        customers = np.unique(test.customers[test.values > 0])
        found.append(list_quality(customers, model.scores, train, test)[0])
    return float(np.mean(found))

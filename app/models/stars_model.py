"""Predicts stars: averages, and explicit ALS on the residuals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.errors import HeadwaterError
from app.models.averages import Averages, fit_averages
from app.models.factors import AlsOptions, Factors, fit_factors, fit_several
from app.models.interactions import Floats, Pairs, Places, held_out, parts_of_each
from app.models.option_search import OptionSearch, Told
from app.models.ranking_metrics import mae, rmse

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FOLDS = 3
FINAL_ITERATIONS = 15
HELD_OUT_MIN = 20  # with fewer ratings the error is meaningless
_LEAST, _MOST = 0.5, 5.0


@dataclass(frozen=True)
class StarsChoices:
    """The options from which cross-validation chooses."""

    ranks: tuple[int, ...] = (8, 4, 16)
    # The last one leaves only averages, which are better with few ratings.
    regularisations: tuple[float, ...] = (0.015, 0.03, 0.06, 0.12, 0.5)


ALL_CHOICES = StarsChoices()


@dataclass(frozen=True)
class StarsModel:
    """Averages and factors, fitted to the same ratings."""

    averages: Averages
    factors: Factors

    def of_pairs(self, customers: Places, movies: Places) -> Floats:
        """Return the predicted stars of each pair, within 0.5 and 5."""
        stars = self.averages.of_pairs(customers, movies) + self.factors.of_pairs(customers, movies)
        return np.clip(stars, _LEAST, _MOST)


@dataclass(frozen=True)
class StarsReport:
    """The errors on held-out ratings, and the model that was chosen without them.

    Args:
        model: fitted to `train`. errors: method → RMSE and MAE on `test`.
        tried: options → RMSE of the cross-validation.
    """

    train: Pairs
    test: Pairs
    model: StarsModel
    options: AlsOptions
    errors: dict[str, tuple[float, float]]
    tried: dict[str, float]

    def gap_closed(self, least_rmse: float) -> float:
        """Return the share of the way from the RMSE of averages to the least possible RMSE."""
        averages, model = self.errors["averages"][0], self.errors["als"][0]
        return (averages - model) / (averages - least_rmse)


def judge_stars(
    spark: SparkSession,
    ratings: Pairs,
    seed: int,
    choices: StarsChoices = ALL_CHOICES,
    told: Told = lambda _: None,
) -> StarsReport:
    """Choose options by cross-validation in three quarters of each customer's ratings; test on the rest.

    Raises: HeadwaterError if too few ratings can be held out.
    """
    out = held_out(ratings.customers, seed)
    train, test = ratings.only(~out), ratings.only(out)
    if len(test) < HELD_OUT_MIN:
        raise HeadwaterError(
            "there are too few ratings to test a model",
            detail=f"of {len(ratings):,} ratings {len(test):,} can be held out, a quarter of each "
            f"customer's; at least {HELD_OUT_MIN} are needed",
            hint="`./headwater store grow` adds ratings",
        )
    options, tried = choose_options(spark, train, seed, choices, told)
    model = fit_stars(spark, train, options)
    methods = {
        "global mean": np.full(len(test), train.values.mean()),
        "averages": np.clip(model.averages.of_pairs(test.customers, test.movies), _LEAST, _MOST),
        "als": model.of_pairs(test.customers, test.movies),
    }
    errors = {
        name: (rmse(test.values, stars), mae(test.values, stars)) for name, stars in methods.items()
    }
    return StarsReport(train, test, model, options, errors, tried)


def fit_stars(spark: SparkSession, ratings: Pairs, options: AlsOptions) -> StarsModel:
    """Fit averages, and ALS to the residuals."""
    averages = fit_averages(ratings)
    rest = ratings.values - averages.of_pairs(ratings.customers, ratings.movies)
    final = replace(options, iterations=FINAL_ITERATIONS)
    return StarsModel(averages, fit_factors(spark, ratings.having(rest), final))


def choose_options(
    spark: SparkSession,
    ratings: Pairs,
    seed: int,
    choices: StarsChoices = ALL_CHOICES,
    told: Told = lambda _: None,
) -> tuple[AlsOptions, dict[str, float]]:
    """Choose the regularisation at the first rank; then choose the rank, at that regularisation.

    Returns: the options with the least RMSE over all folds, and the RMSE of each tried option.
    """
    fold = parts_of_each(ratings.customers, seed, FOLDS)
    search = OptionSearch(
        lambda one: _validated(spark, ratings, fold, one), "stars", "RMSE", min, told
    )
    rank = choices.ranks[0]
    first = search.best_of([AlsOptions(rank, each, seed=seed) for each in choices.regularisations])
    chosen = search.best_of([replace(first, rank=each) for each in choices.ranks])
    return chosen, search.tried()


def _validated(spark: SparkSession, ratings: Pairs, fold: Places, options: AlsOptions) -> float:
    parts = [(ratings.only(fold != n), ratings.only(fold == n)) for n in range(FOLDS)]
    averages = [fit_averages(train) for train, _ in parts]
    fits = [
        (train.having(train.values - a.of_pairs(train.customers, train.movies)), options)
        for (train, _), a in zip(parts, averages, strict=True)
    ]
    squares = 0.0
    for (_, test), a, f in zip(parts, averages, fit_several(spark, fits), strict=True):
        stars = StarsModel(a, f).of_pairs(test.customers, test.movies)
        squares += float(((test.values - stars) ** 2).sum())
    return float(np.sqrt(squares / len(ratings)))

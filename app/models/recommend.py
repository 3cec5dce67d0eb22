"""Recommends movies to customers, and customers for movies: `python -m app.models.recommend`.

1. Read ratings (table and stream) and purchases from silver.
2. Stars: choose and test a model of the stars that a customer gives.
3. Lists: choose and test a model of what a customer likes, beside the most popular movies.
4. Fit both to everything, and write `ml.recommended_movies`, `ml.recommended_customers`, `ml.recommend_quality`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake.exceptions import DeltaError

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.kinds.spark_session import HEAP_MB, only_spark, spark_session
from app.jobs.report import report
from app.models import lists_model, stars_model
from app.models.interactions import Ids, Ratings, rated, seen
from app.models.lists_model import ListsChoices, ListsReport, fit_lists, judge_lists
from app.models.model_tables import ModelTables
from app.models.recommendations import recommended_customers, recommended_movies
from app.models.silver_ratings import read_bought, read_customers, read_offered, read_ratings
from app.models.stars_model import StarsChoices, StarsReport, fit_stars, judge_stars
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Recommendations:
    """What a run has made."""

    movies: pa.Table
    customers: pa.Table
    stars: StarsReport
    lists: ListsReport


def recommend(
    spark: SparkSession,
    ratings: Ratings,
    bought: tuple[Ids, Ids],
    customers: Ids,
    offered: Ids,
    *,
    seed: int = 1,
    stars_choices: StarsChoices = stars_model.ALL_CHOICES,
    lists_choices: ListsChoices = lists_model.ALL_CHOICES,
    told: Callable[[str], None] = lambda _: None,
) -> Recommendations:
    """Test the models on what is held out, then fit them to everything and make the lists.

    Args:
        bought: customers and movies, as often as they were bought.
        customers: who gets a list. offered: the movies that may be in one.
        told: gets a line for each step.
    Raises: HeadwaterError if there is too little to learn from.
    """
    given, known = rated(ratings), seen(ratings, bought)
    stars = judge_stars(spark, given, seed, stars_choices, told)
    lists = judge_lists(spark, known, seed, lists_choices, told)
    told("fitting to all ratings and purchases")
    model = fit_lists(spark, known, lists.options)
    final = fit_stars(spark, given, stars.options)
    movies = recommended_movies(model, final, given, known, customers, offered)
    return Recommendations(
        movies, recommended_customers(model, known, customers, offered), stars, lists
    )


def quality_rows(
    made: Recommendations, seed: int, least_rmse: float | None, at: datetime
) -> pa.Table:
    """Return a row for each measured figure.

    Its columns: `measured_at`, `part`, `method`, `measure`, `value`, `options`, `seed`.
    """
    found: list[tuple[str, str, str, float]] = []
    for method, (rmse, mae) in made.stars.errors.items():
        found += [("stars", method, "rmse", rmse), ("stars", method, "mae", mae)]
    if least_rmse is not None:
        found.append(("stars", "planted optimum", "rmse", least_rmse))
        found.append(("stars", "als", "gap_closed", made.stars.gap_closed(least_rmse)))
    for method, (ndcg, recall) in made.lists.quality.items():
        found += [("lists", method, "ndcg_at_10", ndcg), ("lists", method, "recall_at_10", recall)]
    options = {"stars": str(made.stars.options), "lists": str(made.lists.options)}
    return pa.table(
        {
            "measured_at": pa.array([at] * len(found), pa.timestamp("us", "UTC")),
            "part": [part for part, _, _, _ in found],
            "method": [method for _, method, _, _ in found],
            "measure": [measure for _, _, measure, _ in found],
            "value": [value for _, _, _, value in found],
            "options": [options[part] if method == "als" else None for part, method, _, _ in found],
            "seed": pa.array([seed] * len(found), pa.int64()),
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the model on this home's lake; exit 1 with a few lines where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m app.models.recommend")
    parser.add_argument("--seed", type=int, default=1, help="where every choice comes from")
    parser.add_argument("--truth", type=Path, help="a file of `store grow --truth`")
    parser.add_argument("--heap-mb", type=int, default=HEAP_MB, help="heap of Spark's JVM")
    given = parser.parse_args(arguments)
    try:
        least = _least_rmse(given.truth)
        settings = load()
        tables = ModelTables(Lake(settings.store).for_writing())
        ratings, bought = read_ratings(tables), read_bought(tables)
        customers, offered = read_customers(tables), read_offered(tables)
        _log(
            f"{len(ratings):,} ratings, {len(bought[0]):,} purchases; left out: {dict(ratings.dropped)}"
        )
        with only_spark(settings.home), spark_session(given.heap_mb) as spark:
            made = recommend(spark, ratings, bought, customers, offered, seed=given.seed, told=_log)
        tables.replace("recommended_movies", made.movies)
        tables.replace("recommended_customers", made.customers)
        rows = quality_rows(made, given.seed, least, datetime.now(timezone.utc))
        tables.add("recommend_quality", rows)
    except (HeadwaterError, SettingsError, DeltaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    values = {
        f"{row['part']}_{row['measure']}_{row['method'].replace(' ', '_')}": row["value"]
        for row in rows.to_pylist()
    }
    values |= {"rows_written": len(made.movies) + len(made.customers), "ratings": len(ratings)}
    report(**values)
    print(json.dumps(values))
    return 0


def _least_rmse(truth: Path | None) -> float | None:
    if truth is None:
        return None
    try:
        return float(json.loads(truth.read_text())["stars"]["least_rmse"])
    except (ValueError, KeyError, TypeError) as error:
        raise HeadwaterError(
            f"{truth} is no file of planted tastes",
            detail=f"observed {type(error).__name__}: {error}",
            hint="`./headwater store grow --truth FILE` writes one",
        ) from error


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

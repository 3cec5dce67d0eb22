"""Recommends movies to customers, and customers for movies: `python -m app.models.recommend`.

1. Read ratings (table and stream) and purchases from silver.
2. Stars: choose and test a model of the stars that a customer gives.
3. Lists: choose a model of what a customer likes, and test it against the most popular movies.
4. Fit both to everything; compare both with their champions, and log the run in MLflow.
5. Write `ml.recommended_movies`, `ml.recommended_customers`, `ml.recommend_quality`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
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
from app.models.interactions import Ids, Pairs, Ratings, rated, seen
from app.models.lists_model import ListsChoices, ListsModel, ListsReport, fit_lists, judge_lists
from app.models.model_tables import ModelTables
from app.models.recommendations import recommended_customers, recommended_movies
from app.models.saved_factors import (
    NDCG,
    RMSE,
    compare_lists,
    compare_stars,
    figure_tags,
    save_model,
)
from app.models.silver_ratings import read_bought, read_customers, read_offered, read_ratings
from app.models.stars_model import StarsChoices, StarsModel, StarsReport, fit_stars, judge_stars
from app.models.tracking.tracker import TrackedRun, warn_of
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


PREFIX = "recommend_"
STARS, LISTS = f"{PREFIX}stars", f"{PREFIX}lists"


@dataclass(frozen=True)
class Recommendations:
    """The results of a run. `final_stars`, `final_lists`: the models fitted to all of `given` and `known`."""

    movies: pa.Table
    customers: pa.Table
    stars: StarsReport
    lists: ListsReport
    final_stars: StarsModel
    final_lists: ListsModel
    given: Pairs
    known: Pairs


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
    """Test the models on held-out pairs, then fit them to everything and make the lists.

    Args:
        bought: customers and movies, as often as they were bought.
        customers: those who get a list. offered: the movies that may be in one.
        told: called with a line for each step.
    Raises: HeadwaterError if there is too little to learn from.
    """
    given, known = rated(ratings), seen(ratings, bought)
    stars = judge_stars(spark, given, seed, stars_choices, told)
    lists = judge_lists(spark, known, seed, lists_choices, told)
    told("fitting to all ratings and purchases")
    model = fit_lists(spark, known, lists.options)
    final = fit_stars(spark, given, stars.options)
    movies = recommended_movies(model, final, given, known, customers, offered)
    buyers = recommended_customers(model, known, customers, offered)
    return Recommendations(movies, buyers, stars, lists, final, model, given, known)


def log_run(
    made: Recommendations, tracked: TrackedRun, seed: int, versions_read: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, str]]:
    """Compare both models with their champions and log the run.

    This run's models always make the lists, even if an older one stays champion, because lists must include
    today's new customers.
    Returns: part → its version; part → why the alias moved or did not. Empty if nothing is known.
    """
    champions = tracked.champions(STARS, LISTS)
    said = {}
    if champions:
        said = {
            STARS: compare_stars(made.stars, champions[STARS]),
            LISTS: compare_lists(made.lists, champions[LISTS]),
        }
    stars, lists = made.stars, made.lists
    for name, measure, value, one, final, known in (
        (STARS, RMSE, stars.errors["als"][0], stars, made.final_stars, made.given),
        (LISTS, NDCG, lists.quality["als"][0], lists, made.final_lists, made.known),
    ):
        folder = tracked.folder(name)
        if folder is not None:
            save_model(folder, one.model, one.train, final, known)
            tags = figure_tags(measure, value, one.test)
            tracked.add(name, ["customer_id", "movie_id"], tags, said.get(name))
    logged = tracked.log(*_figures(made, seed), versions_read)
    return (
        {name.removeprefix(PREFIX): one.number for name, one in logged.items()},
        {name.removeprefix(PREFIX): one.why for name, one in said.items()},
    )


def _figures(made: Recommendations, seed: int) -> tuple[dict[str, object], dict[str, float]]:
    """Return the parameters and metrics of a run for MLflow."""
    parameters: dict[str, object] = {"seed": seed}
    metrics: dict[str, float] = {}
    for part, one in (("stars", made.stars), ("lists", made.lists)):
        parameters[f"{part}.options"] = one.options
        parameters[f"{part}.learnt_from"] = len(one.train)
        parameters[f"{part}.held_out"] = len(one.test)
        metrics |= {f"{part}.tried.{name}": value for name, value in one.tried.items()}
    for method, (error, mean_error) in made.stars.errors.items():
        metrics |= {f"stars.rmse.{method}": error, f"stars.mae.{method}": mean_error}
    for method, (gain, found) in made.lists.quality.items():
        metrics |= {f"lists.ndcg_at_10.{method}": gain, f"lists.recall_at_10.{method}": found}
    # MLflow does not allow commas in names.
    return parameters, {name.replace(",", ""): value for name, value in metrics.items()}


def quality_rows(
    made: Recommendations,
    seed: int,
    least_rmse: float | None,
    at: datetime,
    versions: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return a row for each metric.

    Its columns: `measured_at`, `part`, `method`, `measure`, `value`, `options`, `seed`, `model_version`.
    """
    versions = versions or {}
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
            "model_version": pa.array(
                [versions.get(part) if method == "als" else None for part, method, _, _ in found],
                pa.string(),
            ),
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the model on this home's lake; exit 1 with a short message if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m app.models.recommend")
    parser.add_argument("--seed", type=int, default=1, help="the seed of every random choice")
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
        with TrackedRun(settings, "recommend") as tracked:
            versions, why = log_run(made, tracked, given.seed, tables.versions)
        warn_of(tracked)
        of_lists, of_stars = versions.get("lists"), versions.get("stars")
        movies = named(made.movies, model_version=of_lists, stars_version=of_stars)
        tables.replace("recommended_movies", movies)
        tables.replace("recommended_customers", named(made.customers, model_version=of_lists))
        rows = quality_rows(made, given.seed, least, datetime.now(timezone.utc), versions)
        tables.add("recommend_quality", rows)
    except (HeadwaterError, SettingsError, DeltaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    values = {
        f"{row['part']}_{row['measure']}_{row['method'].replace(' ', '_')}": row["value"]
        for row in rows.to_pylist()
    }
    values |= {"rows_written": len(made.movies) + len(made.customers), "ratings": len(ratings)}
    values |= {
        "tracking": tracked.state(),
        **{f"champion_{part}": one for part, one in why.items()},
    }
    report(**values)
    print(json.dumps(values))
    return 0


def named(rows: pa.Table, **versions: str | None) -> pa.Table:
    """Append columns with the version of the model that made the rows; NULL if it is unknown."""
    for name, version in versions.items():
        rows = rows.append_column(name, pa.array([version] * len(rows), pa.string()))
    return rows


def _least_rmse(truth: Path | None) -> float | None:
    if truth is None:
        return None
    try:
        return float(json.loads(truth.read_text())["stars"]["least_rmse"])
    except (ValueError, KeyError, TypeError) as error:
        raise HeadwaterError(
            f"{truth} is not a file of planted tastes",
            detail=f"observed {type(error).__name__}: {error}",
            hint="`./headwater store grow --truth FILE` writes one",
        ) from error


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""One run of a risk model: read, learn, test, log, score open cases; write `ml.<name>` and `ml.<name>_quality`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake.exceptions import DeltaError

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.report import report
from app.models.model_tables import ModelTables
from app.models.risks.cases import Cases, Flags, Floats, Split, check_known, joined
from app.models.risks.classifiers import Quality, Risk, fitted, learned, quality
from app.models.risks.order_history import DAY_S, OrderHistory, read_history
from app.models.risks.saved_risk import BRIER, compared, figure_of, save_risk
from app.models.tracking.tracker import TrackedRun, warn_of
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError

Truth = dict[str, Any]


@dataclass(frozen=True)
class RiskModel:
    """A model of one risk.

    Args:
        name: of its table; what: its cases, for messages.
        cases: the history's cases. best: the best guesses that the truth allows, as method ->
            a chance for each case, NaN if the truth lacks the case.
    """

    name: str
    what: str
    cases: Callable[[OrderHistory], Split]
    best: Callable[[OrderHistory, Cases, Truth], dict[str, Floats]]


def measured(
    model: RiskModel, history: OrderHistory, seed: int, truth: Truth | None
) -> tuple[Split, Risk, dict[str, Quality]]:
    """Learn and test. Returns: the cases, the fitted model, the quality of each method on the test.

    With a truth it also measures the planted methods, all on the test cases that the truth has.
    Raises: HeadwaterError if there is too little to learn from.
    """
    split = model.cases(history)
    check_known(model.what, split)
    risk = learned(split, seed)
    found = {"share of all": risk.base, risk.method: risk.quality}
    if truth is not None:
        planted = model.best(history, split.test, truth)
        unknown = [np.isnan(chances) for chances in planted.values()]
        known: Flags = ~np.logical_or.reduce(unknown)
        if known.any():
            test = split.test.where(known)
            found[risk.method] = quality(test.outcomes, risk.chances(test.features))
            for method, chances in planted.items():
                found[method] = quality(test.outcomes, chances[known])
    return split, risk, found


def refitted(split: Split, risk: Risk, seed: int) -> Risk:
    """Fit the chosen classifier to all known cases; this fit computes the scores."""
    known = joined([split.training, split.test])
    return replace(
        risk,
        model=fitted(risk.method, known, seed),
        usual=np.median(known.features, axis=0),
    )


def scored(split: Split, scoring: Risk, at: datetime, version: str | None = None) -> pa.Table:
    """Return a row for each open case, the highest chance first.

    Its columns: the ids, `as_of`, `chance`, `reasons`, `method`, `scored_at`, `model_version` (NULL if the
    run could not be logged, or without tracking).
    """
    chances = scoring.chances(split.open.features) if len(split.open) else np.empty(0)
    reasons = [", ".join(some) or None for some in scoring.reasons(split.open)]
    days = pa.array((split.open.at * DAY_S * 1_000_000).astype(np.int64), pa.timestamp("us", "UTC"))
    rows = split.open.ids
    for name, values in {
        "as_of": days,
        "chance": pa.array(chances, pa.float64()),
        "reasons": pa.array(reasons, pa.string()),
        "method": pa.array([scoring.method] * len(rows), pa.string()),
        "scored_at": pa.array([at] * len(rows), pa.timestamp("us", "UTC")),
        "model_version": pa.array([version] * len(rows), pa.string()),
    }.items():
        rows = rows.append_column(name, values)
    return rows.sort_by([("chance", "descending"), (split.open.ids.column_names[0], "ascending")])


def quality_rows(
    found: dict[str, Quality], split: Split, seed: int, at: datetime, version: str | None = None
) -> pa.Table:
    """Return a row for each metric.

    Its columns: `measured_at`, `method`, `measure`, `value`, `cases`, `seed`, `model_version` (the run's own).
    """
    rows = [
        {"method": method, "measure": measure, "value": value}
        for method, one in found.items()
        for measure, value in asdict(one).items()
    ]
    return pa.table(
        {
            "measured_at": pa.array([at] * len(rows), pa.timestamp("us", "UTC")),
            "method": [row["method"] for row in rows],
            "measure": [row["measure"] for row in rows],
            "value": pa.array([row["value"] for row in rows], pa.float64()),
            "cases": pa.array([len(split.test)] * len(rows), pa.int64()),
            "seed": pa.array([seed] * len(rows), pa.int64()),
            "model_version": pa.array([version] * len(rows), pa.string()),
        }
    )


@dataclass(frozen=True)
class Scores:
    """The results of a run. `champion`: why the alias moved or did not; "" if nothing was compared."""

    rows: pa.Table
    quality: pa.Table
    split: Split
    risk: Risk
    found: dict[str, Quality]
    champion: str


def learn_and_score(
    model: RiskModel, tables: ModelTables, tracked: TrackedRun, seed: int, truth: Truth | None
) -> Scores:
    """Learn, test, compare with the champion, and log; then score with the champion.

    If MLflow is unavailable, or without tracking, this run's own model scores.
    """
    at = datetime.now(timezone.utc)
    split, risk, found = measured(model, read_history(tables), seed, truth)
    final = refitted(split, risk, seed)
    champion = tracked.champions(model.name)
    said, staying = None, None
    if model.name in champion:
        said, staying = compared(split.test, risk, champion[model.name])
    folder = tracked.folder(model.name)
    if folder is not None:
        save_risk(folder, split.test, risk, final)
        tracked.add(model.name, split.test.names, _tags(split, risk), said)
    metrics = {
        f"{measure}.{method}": value
        for method, one in found.items()
        for measure, value in asdict(one).items()
    }
    metrics |= {f"log_loss.{method}": value for method, value in risk.log_losses.items()}
    parameters = {
        "seed": seed,
        "method": risk.method,
        "training_cases": len(split.training),
        "test_cases": len(split.test),
        "test_from_day": float(split.test.at.min()),
        "test_to_day": float(split.test.at.max()),
    }
    logged = tracked.log(parameters, metrics, tables.versions).get(model.name)
    version = logged.number if logged else None
    if said and staying:
        rows = scored(split, staying.scoring, at, said.rival)
    else:
        rows = scored(split, final, at, version)
    figures = quality_rows(found, split, seed, at, version)
    return Scores(rows, figures, split, risk, found, said.why if said else "")


def _tags(split: Split, risk: Risk) -> dict[str, str]:
    figure = figure_of(split.test, risk)
    return {"measure": BRIER.name, "value": f"{figure.value:.6f}", "hold_out": figure.hold_out}


def run(model: RiskModel, arguments: Sequence[str] | None = None) -> int:
    """Run the model on this home's lake; exit 1 with a short message if it cannot."""
    parser = argparse.ArgumentParser(prog=f"python -m app.models.risks.{model.name}")
    parser.add_argument("--seed", type=int, default=1, help="the seed of every random choice")
    parser.add_argument("--truth", type=Path, help="a file of `store grow --truth`")
    given = parser.parse_args(arguments)
    try:
        truth = _read_truth(given.truth)
        settings = load()
        tables = ModelTables(Lake(settings.store).for_writing())
        with TrackedRun(settings, model.name) as tracked:
            made = learn_and_score(model, tables, tracked, given.seed, truth)
        split = made.split
        print(
            f"{len(split.training):,} cases to learn from, {len(split.test):,} to test with, "
            f"{len(split.open):,} to score; log loss: {made.risk.log_losses}",
            file=sys.stderr,
        )
        warn_of(tracked)
        tables.replace(model.name, made.rows)
        tables.add(f"{model.name}_quality", made.quality)
    except (HeadwaterError, SettingsError, DeltaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    values: dict[str, int | float | str] = {
        f"{measure}_{method.replace(' ', '_')}": round(value, 4)
        for method, one in made.found.items()
        for measure, value in asdict(one).items()
    }
    values |= {"rows_written": len(made.rows), "cases": len(split.training)}
    values |= {"method": made.risk.method, "tracking": tracked.state()}
    if made.champion:
        values["champion"] = made.champion
    report(**values)
    print(json.dumps(values))
    return 0


def _read_truth(path: Path | None) -> Truth | None:
    if path is None:
        return None
    try:
        found: Truth = json.loads(path.read_text())
        _ = found["habits"], found["bills"]
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise HeadwaterError(
            f"{path} is not a file of planted habits",
            detail=f"observed {type(error).__name__}: {error}",
            hint="`./headwater store grow --truth FILE` writes one",
        ) from error

"""One run of a model of risk: read, learn, test, score what is open, write `ml.<name>` and `ml.<name>_quality`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import SettingsError

Truth = dict[str, Any]


@dataclass(frozen=True)
class RiskModel:
    """A model of one risk.

    Args:
        name: of its table; what: its cases, for messages.
        cases: the history's cases. best: chances of the best guesses that the truth allows, method ->
            a chance for each case, NaN where the truth does not know it.
    """

    name: str
    what: str
    cases: Callable[[OrderHistory], Split]
    best: Callable[[OrderHistory, Cases, Truth], dict[str, Floats]]


def measured(
    model: RiskModel, history: OrderHistory, seed: int, truth: Truth | None
) -> tuple[Split, Risk, dict[str, Quality]]:
    """Learn and test. Returns: the cases, the fitted model, the quality of each method on the test.

    With a truth the planted methods stand beside it, all on the test's cases that the truth knows.
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


def scored(split: Split, risk: Risk, seed: int, at: datetime) -> pa.Table:
    """Return a row for each open case, the highest chance first, by a model that knows all outcomes.

    Its columns: the ids, `as_of`, `chance`, `reasons`, `method`, `scored_at`.
    """
    known = joined([split.training, split.test])
    final = Risk(
        risk.method,
        risk.quality,
        risk.base,
        risk.log_losses,
        fitted(risk.method, known, seed),
        np.median(known.features, axis=0),
    )
    chances = final.chances(split.open.features) if len(split.open) else np.empty(0)
    reasons = [", ".join(some) or None for some in final.reasons(split.open)]
    days = pa.array((split.open.at * DAY_S * 1_000_000).astype(np.int64), pa.timestamp("us", "UTC"))
    rows = split.open.ids
    for name, values in {
        "as_of": days,
        "chance": pa.array(chances, pa.float64()),
        "reasons": pa.array(reasons, pa.string()),
        "method": pa.array([risk.method] * len(rows), pa.string()),
        "scored_at": pa.array([at] * len(rows), pa.timestamp("us", "UTC")),
    }.items():
        rows = rows.append_column(name, values)
    return rows.sort_by([("chance", "descending"), (split.open.ids.column_names[0], "ascending")])


def quality_rows(found: dict[str, Quality], split: Split, seed: int, at: datetime) -> pa.Table:
    """Return a row for each figure: `measured_at`, `method`, `measure`, `value`, `cases`, `seed`."""
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
        }
    )


def run(model: RiskModel, arguments: Sequence[str] | None = None) -> int:
    """Run the model on this home's lake; exit 1 with a few lines where it cannot."""
    parser = argparse.ArgumentParser(prog=f"python -m app.models.risks.{model.name}")
    parser.add_argument("--seed", type=int, default=1, help="where every choice comes from")
    parser.add_argument("--truth", type=Path, help="a file of `store grow --truth`")
    given = parser.parse_args(arguments)
    try:
        truth = _read_truth(given.truth)
        tables = ModelTables(Lake(load().store).for_writing())
        at = datetime.now(timezone.utc)
        split, risk, found = measured(model, read_history(tables), given.seed, truth)
        print(
            f"{len(split.training):,} cases to learn from, {len(split.test):,} to test with, "
            f"{len(split.open):,} to score; log loss: {risk.log_losses}",
            file=sys.stderr,
        )
        rows = scored(split, risk, given.seed, at)
        tables.replace(model.name, rows)
        tables.add(f"{model.name}_quality", quality_rows(found, split, given.seed, at))
    except (HeadwaterError, SettingsError, DeltaError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    values: dict[str, int | float | str] = {
        f"{measure}_{method.replace(' ', '_')}": round(value, 4)
        for method, one in found.items()
        for measure, value in asdict(one).items()
    }
    values |= {"rows_written": len(rows), "cases": len(split.training), "method": risk.method}
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
            f"{path} is no file of planted habits",
            detail=f"observed {type(error).__name__}: {error}",
            hint="`./headwater store grow --truth FILE` writes one",
        ) from error

"""The models of `recommend` as files, and their comparison with the champion's on pairs from which neither has learnt.

`tested.npz` is the tested fit, with the pairs from which it has learnt. `final.npz` is fitted to everything; MLflow's
model predicts with it (`tracking/factor_model`). Both have only arrays, so no code is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.models.averages import Averages
from app.models.factors import Factors
from app.models.interactions import Ids, Mask, Pairs
from app.models.lists_model import ListsModel, ListsReport, list_quality
from app.models.ranking_metrics import rmse
from app.models.stars_model import StarsModel, StarsReport
from app.models.tracking.champion import Figure, Measure, Rival, Verdict, hold_out_of, verdict
from app.models.tracking.tracker import Champion

RMSE = Measure("rmse", smaller_is_better=True)
NDCG = Measure("ndcg_at_10", smaller_is_better=False)
TESTED, FINAL = "tested.npz", "final.npz"
Arrays = dict[str, npt.NDArray[Any]]


def save_model(
    folder: Path, tested: StarsModel | ListsModel, train: Pairs, final: StarsModel | ListsModel, known: Pairs
) -> None:  # fmt: skip
    """Write both fits into an existing folder. `train`, `known`: the pairs to which they were fitted."""
    learnt: Arrays = {
        "learnt_customers": train.customer_ids[train.customers],
        "learnt_movies": train.movie_ids[train.movies],
    }
    _write(folder / TESTED, {**_arrays(tested, train), **learnt})
    _write(folder / FINAL, _arrays(final, known))


def compare_stars(report: StarsReport, champion: Champion | None) -> Verdict:
    """Compare stars by RMSE."""
    saved, rival = _read(champion)
    test = report.test if saved is None else report.test.only(~_learnt(saved, report.test))
    ours = Figure(_rmse(report.model, test), _hold_out(test))
    if saved is not None and champion is not None:
        theirs = _rmse(stars_of(saved, test.customer_ids, test.movie_ids), test)
        rival = Rival(champion.version, Figure(theirs, _hold_out(test)))
    return verdict(RMSE, ours, rival)


def compare_lists(report: ListsReport, champion: Champion | None) -> Verdict:
    """Compare lists by nDCG@10; both leave out the pairs of this run's training part."""
    saved, rival = _read(champion)
    test = report.test if saved is None else report.test.only(~_learnt(saved, report.test))
    ours = Figure(_ndcg(report.model, report.train, test), _hold_out(test))
    if saved is not None and champion is not None:
        theirs = _ndcg(lists_of(saved, test.customer_ids, test.movie_ids), report.train, test)
        rival = Rival(champion.version, Figure(theirs, _hold_out(test)))
    return verdict(NDCG, ours, rival)


def figure_tags(measure: Measure, value: float, test: Pairs) -> dict[str, str]:
    """Return the tags of a version: the measure and the hold-out of its test."""
    return {"measure": measure.name, "value": f"{value:.6f}", "hold_out": _hold_out(test)}


def stars_of(saved: Arrays, customer_ids: Ids, movie_ids: Ids) -> StarsModel:
    """Make the model from saved numbers, with today's indexes; new customers and movies have zeros."""
    averages = Averages(
        float(saved["mean"]),
        _moved(saved["customer_averages"], saved["customer_ids"], customer_ids, 0.0),
        _moved(saved["movie_averages"], saved["movie_ids"], movie_ids, 0.0),
    )
    return StarsModel(averages, _factors(saved, customer_ids, movie_ids))


def lists_of(saved: Arrays, customer_ids: Ids, movie_ids: Ids) -> ListsModel:
    """Make the model from saved numbers, with today's indexes; a movie that it does not know is in no list."""
    popular = _moved(saved["popular"], saved["movie_ids"], movie_ids, -np.inf)
    return ListsModel(_factors(saved, customer_ids, movie_ids), popular)


def _arrays(model: StarsModel | ListsModel, fitted_to: Pairs) -> Arrays:
    factors = model.factors
    found: Arrays = {
        "customer_ids": fitted_to.customer_ids,
        "movie_ids": fitted_to.movie_ids,
        "customer_factors": factors.customers,
        "movie_factors": factors.movies,
        "known_customers": factors.known_customers,
        "known_movies": factors.known_movies,
    }
    if isinstance(model, ListsModel):
        return {**found, "popular": model.popular}
    return {
        **found,
        "mean": np.array(model.averages.mean),
        "customer_averages": model.averages.customers,
        "movie_averages": model.averages.movies,
    }


def _write(path: Path, arrays: Arrays) -> None:
    save: Any = np.savez_compressed  # its stub takes any keyword for its own flag
    save(path, **arrays)


def _read(champion: Champion | None) -> tuple[Arrays | None, Rival | None]:
    if champion is None:
        return None, None
    if champion.folder is None:
        return None, Rival(champion.version, None, champion.why_not)
    with np.load(champion.folder / TESTED, allow_pickle=False) as found:
        return dict(found), None


def _learnt(saved: Arrays, pairs: Pairs) -> Mask:
    """Return, for each pair, whether the saved model has learnt from it."""
    customers, known_customers = _places(pairs.customer_ids, saved["learnt_customers"])
    movies, known_movies = _places(pairs.movie_ids, saved["learnt_movies"])
    count, both = len(pairs.movie_ids), known_customers & known_movies
    learnt = customers[both] * count + movies[both]
    return np.isin(pairs.customers.astype(np.int64) * count + pairs.movies, learnt)


def _places(ids: Ids, wanted: Ids) -> tuple[Ids, Mask]:
    """Return the index of each wanted id in `ids`, which are sorted, and whether it is there."""
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1).astype(np.int64)
    return place, ids[place] == wanted


def _moved(
    values: npt.NDArray[Any], known: Ids, wanted: Ids, missing: float
) -> npt.NDArray[np.float64]:
    """Return the value of each wanted id."""
    place, there = _places(known, wanted)
    found = np.full((len(wanted), *values.shape[1:]), missing)
    found[there] = values[place[there]]
    return found


def _factors(saved: Arrays, customer_ids: Ids, movie_ids: Ids) -> Factors:
    customers, movies = saved["customer_ids"], saved["movie_ids"]
    return Factors(
        _moved(saved["customer_factors"], customers, customer_ids, 0.0),
        _moved(saved["movie_factors"], movies, movie_ids, 0.0),
        _moved(saved["known_customers"], customers, customer_ids, 0.0) > 0,
        _moved(saved["known_movies"], movies, movie_ids, 0.0) > 0,
    )


def _rmse(model: StarsModel, test: Pairs) -> float:
    if not len(test):
        return float("nan")
    return rmse(test.values, model.of_pairs(test.customers, test.movies))


def _ndcg(model: ListsModel, train: Pairs, test: Pairs) -> float:
    customers = np.unique(test.customers[test.values > 0])
    if not len(customers):
        return float("nan")
    return list_quality(customers, model.scores, train, test)[0]


def _hold_out(test: Pairs) -> str:
    return hold_out_of(test.customer_ids[test.customers], test.movie_ids[test.movies], test.values)

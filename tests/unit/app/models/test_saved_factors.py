"""The champion of `recommend` on today's hold-out: on pairs from which neither has learnt, with today's indexes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.models.averages import fit_averages
from app.models.factors import AlsOptions, Factors
from app.models.interactions import Pairs, held_out, rated
from app.models.lists_model import ListsModel
from app.models.saved_factors import compare_stars, lists_of, save_model, stars_of
from app.models.stars_model import StarsModel, StarsReport
from app.models.tracking.tracker import Champion
from tests.support.planted import planted

NO_OPTIONS = AlsOptions(1, 0.1)


def averages_only(train: Pairs, *, worse_by: float = 0.0) -> StarsModel:
    fitted = fit_averages(train)
    customers, movies = len(train.customer_ids), len(train.movie_ids)
    zeros = Factors(
        np.zeros((customers, 1)), np.zeros((movies, 1)),
        np.ones(customers, np.bool_), np.ones(movies, np.bool_),
    )  # fmt: skip
    return StarsModel(type(fitted)(fitted.mean + worse_by, fitted.customers, fitted.movies), zeros)


def report_of(given: Pairs, seed: int, **more: float) -> StarsReport:
    out = held_out(given.customers, seed)
    train, test = given.only(~out), given.only(out)
    return StarsReport(train, test, averages_only(train, **more), NO_OPTIONS, {}, {})


def saved(folder: Path, report: StarsReport) -> Champion:
    save_model(folder, report.model, report.train, report.model, report.train)
    return Champion("1", {}, folder)


@pytest.fixture(scope="module")
def given() -> Pairs:
    return rated(planted(6_000).ratings)


def test_the_same_run_again_is_not_better_than_itself(tmp_path: Path, given: Pairs) -> None:
    report = report_of(given, 1)
    assert compare_stars(report, None).why == "there was no champion"
    said = compare_stars(report, saved(tmp_path, report))
    assert not said.moves and "is not better than" in said.why


def test_a_better_model_moves_the_alias_and_a_worse_one_does_not(
    tmp_path: Path, given: Pairs
) -> None:
    good, bad = report_of(given, 1), report_of(given, 1, worse_by=0.3)
    for name, champion, new, moves in (("a", bad, good, True), ("b", good, bad, False)):
        folder = tmp_path / name
        folder.mkdir()
        assert compare_stars(new, saved(folder, champion)).moves == moves


def test_pairs_that_the_champion_has_learnt_from_count_for_neither(
    tmp_path: Path, given: Pairs
) -> None:
    """A champion that has memorised every star looks perfect on its own training data."""
    other_seed = report_of(given, 2)
    champion = saved(tmp_path, other_seed)
    report = report_of(given, 1)
    learnt = set(
        zip(other_seed.train.customers.tolist(), other_seed.train.movies.tolist(), strict=True)
    )
    mine = zip(report.test.customers.tolist(), report.test.movies.tolist(), strict=True)
    left = report.test.only(np.array([pair not in learnt for pair in mine]))
    assert 0 < len(left) < len(report.test)
    error = np.sqrt(
        np.mean((left.values - report.model.of_pairs(left.customers, left.movies)) ** 2)
    )
    assert f"rmse {error:.6f} is" in compare_stars(report, champion).why
    everything = saved_all(tmp_path / "all", given)
    assert compare_stars(report, everything).why == "its rmse is nan"


def saved_all(folder: Path, given: Pairs) -> Champion:
    folder.mkdir()
    model = averages_only(given)
    save_model(folder, model, given, model, given)
    return Champion("2", {}, folder)


def test_who_is_new_to_saved_numbers_gets_averages_and_the_most_popular(tmp_path: Path) -> None:
    customers, movies = np.array([2, 5]), np.array([10, 30])
    pairs = Pairs(
        customers, movies, np.array([0, 1], np.int32), np.array([0, 1], np.int32),
        np.array([4.0, 2.0]),
    )  # fmt: skip
    factors = Factors(
        np.array([[1.0], [2.0]]), np.array([[0.5], [0.25]]),
        np.array([True, True]), np.array([True, True]),
    )  # fmt: skip
    lists = ListsModel(factors, np.array([3.0, 1.0]))
    stars = StarsModel(fit_averages(pairs), factors)
    today = np.array([1, 5]), np.array([10, 20, 30])
    for name, model in (("lists", lists), ("stars", stars)):
        folder = tmp_path / name
        folder.mkdir()
        save_model(folder, model, pairs, model, pairs)
    with np.load(tmp_path / "lists" / "final.npz") as found:
        moved = lists_of(dict(found), *today)
    assert moved.scores(np.array([0, 1], np.int32)).tolist() == [
        [3.0, -np.inf, 1.0],  # a newcomer
        [1.0, -np.inf, 0.5],
    ]
    with np.load(tmp_path / "stars" / "final.npz") as found:
        of_today = stars_of(dict(found), *today)
    new, known = np.array([0, 1], np.int32), np.array([2, 2], np.int32)
    predicted = of_today.of_pairs(new, known)
    was = stars.of_pairs(np.array([1], np.int32), np.array([1], np.int32))
    assert predicted[1] == pytest.approx(was[0])
    assert predicted[0] == pytest.approx(stars.averages.mean + stars.averages.movies[1])

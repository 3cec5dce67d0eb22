"""The champion of a risk on today's test: it stays and scores, or is replaced, and the verdict gives the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from app.models.risks.cases import Split
from app.models.risks.churn import CHURN
from app.models.risks.classifiers import Risk, fitted
from app.models.risks.order_history import order_history
from app.models.risks.risk_run import measured, refitted, scored
from app.models.risks.saved_risk import compared, save_risk
from app.models.tracking.tracker import Champion
from tests.support.planted_history import planted_history

NOW = datetime(2026, 2, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def learnt() -> tuple[Split, Risk]:
    split, risk, _ = measured(CHURN, order_history(planted_history(300).tables), 1, None)
    return split, risk


def champion(folder: Path, split: Split, risk: Risk) -> Champion:
    save_risk(folder, split.test, risk, refitted(split, risk, 1))
    return Champion("4", {}, folder)


def test_a_champion_that_is_no_worse_stays_and_scores_as_it_did(
    tmp_path: Path, learnt: tuple[Split, Risk]
) -> None:
    split, risk = learnt
    said, staying = compared(split.test, risk, champion(tmp_path, split, risk))
    assert not said.moves and "is not better than" in said.why and "version 4" in said.why
    assert staying is not None
    rows = scored(split, staying.scoring, NOW, said.rival)
    assert rows["model_version"].unique().to_pylist() == ["4"]
    own = scored(split, refitted(split, risk, 1), NOW, "4")
    assert rows.equals(own)


def test_a_worse_champion_makes_way(tmp_path: Path, learnt: tuple[Split, Risk]) -> None:
    split, risk = learnt
    shuffled = replace(
        split.training, outcomes=np.random.default_rng(1).permutation(split.training.outcomes)
    )
    worse = replace(risk, model=fitted(risk.method, shuffled, 1))
    said, staying = compared(split.test, risk, champion(tmp_path, split, worse))
    assert said.moves and staying is None
    assert "on the same hold-out" in said.why


def test_cases_of_which_the_champion_may_have_learnt_count_for_neither(
    tmp_path: Path, learnt: tuple[Split, Risk]
) -> None:
    split, risk = learnt
    last = float(split.test.at.max())
    late = split.test.where(split.test.at == last)
    assert 0 < len(late) < len(split.test)
    save_risk(tmp_path, late, risk, risk)  # its test began with the last cut-off
    said, _ = compared(split.test, risk, Champion("4", {}, tmp_path))
    value = float(((risk.chances(late.features) - late.outcomes) ** 2).mean())
    assert f"brier {value:.6f} is not better" in said.why


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("names", ["orders"], "version 4 knows other features"),
        ("scikit-learn", "0.1", "version 4 was fitted by scikit-learn 0.1"),
    ],
)
def test_a_champion_that_cannot_be_applied_today_makes_way(
    tmp_path: Path, learnt: tuple[Split, Risk], key: str, value: object, why: str
) -> None:
    split, risk = learnt
    found = champion(tmp_path, split, risk)
    about = tmp_path / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), key: value}))
    said, staying = compared(split.test, risk, found)
    assert (said.moves, said.why, staying) == (True, why, None)
    gone = Champion("4", {}, None, "has other files in the bucket than were logged")
    assert compared(split.test, risk, gone)[0].moves

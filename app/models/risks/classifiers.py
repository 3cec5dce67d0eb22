"""Chances from features: scikit-learn's logistic regression and gradient boosting, calibrated and tested.

1. The latest VALIDATION_SHARE of the training cases are for validation; each classifier is fitted to the others.
2. The classifier with the smaller log loss on the validation cases is fitted to all training cases.
3. It is tested on later cases, against the share of cases that came true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from app.models.risks.cases import Cases, Flags, Floats, Split

VALIDATION_SHARE = 0.2
LIFT_SHARE = 0.1
REASONS = 3
_CHANCE_MIN = 1e-6
# Each fit runs on one core, because OpenMP's threads use CPU while they wait.


def _regression(seed: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=500))


def _boosting(seed: int) -> Any:
    return HistGradientBoostingClassifier(
        learning_rate=0.06, max_leaf_nodes=12, min_samples_leaf=60, max_iter=120, random_state=seed
    )


CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "logistic regression": _regression,
    "gradient boosting": _boosting,
}


@dataclass(frozen=True)
class Quality:
    """The quality of chances on cases with known outcomes. `lift`: of the tenth with the highest chances."""

    roc_auc: float
    pr_auc: float
    brier: float
    lift: float


@dataclass(frozen=True)
class Risk:
    """A chosen classifier, its test, and the test of the constant share that came true."""

    method: str
    quality: Quality
    base: Quality
    log_losses: dict[str, float]
    model: Any
    usual: Floats

    def chances(self, features: Floats) -> Floats:
        """Return the chance of each case."""
        with threadpool_limits(1):
            found: Floats = self.model.predict_proba(features)[:, 1]
        return found

    def reasons(self, cases: Cases) -> list[list[str]]:
        """Return for each case the features that raise its chance most, the strongest first.

        A feature's share is the fall of the chance if the training cases' median replaces the feature.
        """
        if not len(cases):
            return []
        chances = self.chances(cases.features)
        losses = np.empty(cases.features.shape)
        for number in range(cases.features.shape[1]):
            usual = cases.features.copy()
            usual[:, number] = self.usual[number]
            losses[:, number] = chances - self.chances(usual)
        order = np.argsort(-losses, axis=1, kind="stable")[:, :REASONS]
        return [
            [cases.names[one] for one in best if loss[one] > 0]
            for best, loss in zip(order, losses, strict=True)
        ]


def fitted(name: str, cases: Cases, seed: int) -> Any:
    """Fit a classifier, and calibrate its chances on folds of the same cases."""
    model = CalibratedClassifierCV(CLASSIFIERS[name](seed), method="sigmoid", cv=3)
    with threadpool_limits(1):
        model.fit(cases.features, cases.outcomes)
    return model


def learned(split: Split, seed: int) -> Risk:
    """Choose a classifier, fit it to the training cases, and test it on the later ones.

    Both parts need cases of both outcomes: `check_known`.
    """
    losses = {name: _validation_loss(name, split.training, seed) for name in CLASSIFIERS}
    method = min(losses, key=lambda name: losses[name])
    model = fitted(method, split.training, seed)
    test = split.test
    base = np.full(len(test), split.training.outcomes.mean())
    return Risk(
        method,
        quality(test.outcomes, model.predict_proba(test.features)[:, 1]),
        quality(test.outcomes, base),
        losses,
        model,
        np.median(split.training.features, axis=0),
    )


def quality(outcomes: Flags, chances: Floats) -> Quality:
    """Measure chances by the outcomes; the lift counts cases of equal chance in part."""
    return Quality(
        float(roc_auc_score(outcomes, chances)),
        float(average_precision_score(outcomes, chances)),
        float(brier_score_loss(outcomes, chances)),
        lift(outcomes, chances),
    )


def lift(outcomes: Flags, chances: Floats) -> float:
    """Return the share that comes true in the tenth with the highest chances, divided by the share in all cases.

    Cases with the chance at the tenth's border count in part.
    """
    count = max(1, round(LIFT_SHARE * len(chances)))
    limit = np.sort(chances)[-count]
    above, equal = chances > limit, chances == limit
    share = (count - above.sum()) / equal.sum()
    came = outcomes[above].sum() + share * outcomes[equal].sum()
    return float(came / count / outcomes.mean())


def _validation_loss(name: str, training: Cases, seed: int) -> float:
    late = training.at > np.quantile(training.at, 1 - VALIDATION_SHARE, method="lower")
    early, kept = training.where(~late), training.where(late)
    if len(set(early.outcomes.tolist())) < 2 or len(set(kept.outcomes.tolist())) < 2:
        early = kept = (
            training  # all cases are from one day, or are so few that a part has only one outcome
        )
    chances = fitted(name, early, seed).predict_proba(kept.features)[:, 1]
    return float(log_loss(kept.outcomes, np.clip(chances, _CHANCE_MIN, 1 - _CHANCE_MIN)))

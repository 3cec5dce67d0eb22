"""Measures of lists, by cases that are computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.models.ranking_metrics import mae, ndcg, recall, rmse

HITS = np.array(
    [
        [True, True, False, False],
        [False, False, False, True],
        [True, False, True, False],
        [False, False, False, False],
        [True, True, True, True],
    ]
)
RELEVANT = np.array([2.0, 1.0, 3.0, 5.0, 9.0])


def test_ndcg_is_the_gain_of_the_hits_over_that_of_the_best_order() -> None:
    second, third, fourth = 1 / math.log2(3), 1 / math.log2(4), 1 / math.log2(5)
    assert ndcg(HITS, RELEVANT) == pytest.approx(
        [1.0, fourth, (1 + third) / (1 + second + third), 0.0, 1.0]
    )


def test_recall_is_the_share_of_what_was_relevant() -> None:
    assert recall(HITS, RELEVANT) == pytest.approx([1.0, 1.0, 2 / 3, 0.0, 4 / 9])


def test_errors_of_stars() -> None:
    given, predicted = np.array([4.0, 2.0, 5.0]), np.array([3.0, 2.0, 3.0])
    assert rmse(given, predicted) == pytest.approx(math.sqrt(5 / 3))
    assert mae(given, predicted) == pytest.approx(1.0)

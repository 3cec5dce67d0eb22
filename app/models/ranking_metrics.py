"""Measures of ordered lists, by the movies that the customers turned out to like."""

from __future__ import annotations

import numpy as np

from app.models.interactions import Floats, Mask


def ndcg(hits: Mask, relevant: Floats) -> Floats:
    """Return each list's normalised discounted cumulative gain (Järvelin and Kekäläinen, 2002).

    A hit at place i (from 1) gains 1 / log2(i + 1); the best possible order has 1.

    Args:
        hits: (lists, places): whether the movie at a place is relevant.
        relevant: how many movies are relevant to each list's customer; above 0.
    """
    places = hits.shape[1]
    gains = 1 / np.log2(np.arange(2, places + 2))
    best = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(relevant, places).astype(np.int64)]
    return (hits @ gains) / best


def recall(hits: Mask, relevant: Floats) -> Floats:
    """Return the share of each customer's relevant movies that is in the list."""
    return hits.sum(axis=1) / relevant


def rmse(given: Floats, predicted: Floats) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((given - predicted) ** 2)))


def mae(given: Floats, predicted: Floats) -> float:
    """Return the mean absolute error."""
    return float(np.mean(np.abs(given - predicted)))

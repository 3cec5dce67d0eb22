"""The best guess that a customer's earlier bills allow: no model of those bills can be better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.store.planted.habits import AMOUNT, CARELESSNESS, UNPAID, USUAL_AMOUNT
from app.store.planted.hidden import Floats

# Carelessness is normal with mean 0 and deviation 1; its integral is a sum over these.
_GRID = np.linspace(-4.5, 4.5, 181)
_PRIOR = np.exp(-(_GRID**2) / 2)


def unpaid_guess(amount: float, earlier: Sequence[tuple[float, bool]]) -> float:
    """Return the chance that a bill stays unpaid, given earlier ones that were due.

    Args:
        earlier: of each, its amount and whether it was paid.
    """
    weights = _PRIOR.copy()
    for one, paid in earlier:
        unpaid = _unpaid(one)
        weights *= 1 - unpaid if paid else unpaid
    return float((weights * _unpaid(amount)).sum() / weights.sum())


def _unpaid(amount: float) -> Floats:
    odds = UNPAID + CARELESSNESS * _GRID + AMOUNT * np.log(max(amount, 1.0) / USUAL_AMOUNT)
    return np.asarray(1 / (1 + np.exp(-odds)))

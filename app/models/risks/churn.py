"""Scores which customers stop ordering: `python -m app.models.risks.churn` writes `ml.churn` and `ml.churn_quality`."""

from __future__ import annotations

import sys

import numpy as np

from app.models.risks.cases import Cases, Floats
from app.models.risks.churn_cases import SILENT_DAYS, churn_cases
from app.models.risks.order_history import OrderHistory
from app.models.risks.risk_run import RiskModel, Truth, run
from app.store.planted.habits import Habits


def planted_chances(history: OrderHistory, cases: Cases, truth: Truth) -> dict[str, Floats]:
    """Return each customer's true chance of silence, computed from the planted habits."""
    habits = {int(one): Habits(*rest) for one, *rest in truth["habits"]}
    found = np.full(len(cases), np.nan)
    customers = cases.ids["customer_id"].to_pylist()
    for at in np.unique(cases.at):
        last = history.rows(
            "SELECT customer_id, max(day) AS last FROM orders WHERE day < $at GROUP BY 1",
            at=float(at),
        )
        last_of = dict(zip(last["customer_id"].to_pylist(), last["last"].to_pylist(), strict=True))
        for place in np.flatnonzero(cases.at == at):
            one = customers[place]
            if one in habits:
                found[place] = habits[one].silent(at - last_of[one], SILENT_DAYS)
    return {"planted optimum": found}


CHURN = RiskModel("churn", "customers who leave", churn_cases, planted_chances)

if __name__ == "__main__":
    sys.exit(run(CHURN))

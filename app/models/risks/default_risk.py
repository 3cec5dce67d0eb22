"""Scores which bills stay unpaid: `python -m app.models.risks.default_risk` writes `ml.default_risk`.

Its metrics are in `ml.default_risk_quality`.
"""

from __future__ import annotations

import sys

import numpy as np

from app.models.risks.bill_cases import bill_cases
from app.models.risks.cases import Cases, Floats
from app.models.risks.order_history import OrderHistory
from app.models.risks.risk_run import RiskModel, Truth, run
from app.store.planted.best_guess import unpaid_guess

_EARLIER = """
SELECT b.order_id, e.net, coalesce(e.paid_day < b.day, false) AS paid
FROM bills AS b JOIN bills AS e ON e.customer_id = b.customer_id AND e.day < b.day
WHERE e.due < b.day
"""


def planted_chances(history: OrderHistory, cases: Cases, truth: Truth) -> dict[str, Floats]:
    """Return the planted chance of each bill, and the best guess from the earlier bills only.

    A customer's carelessness is hidden and few bills show it, so the best guess is the limit of any model.
    """
    planted = {int(order): float(chance) for order, chance in truth["bills"]}
    orders = cases.ids["order_id"].to_pylist()
    chances = np.array([planted.get(one, np.nan) for one in orders])
    amounts = dict(
        zip(*history.rows("SELECT order_id, net FROM bills").to_pydict().values(), strict=True)
    )
    seen: dict[int, list[tuple[float, bool]]] = {}
    for row in history.rows(_EARLIER).to_pylist():
        seen.setdefault(row["order_id"], []).append((row["net"], row["paid"]))
    guess = np.array([unpaid_guess(amounts[one], seen.get(one, ())) for one in orders])
    return {"planted optimum": chances, "best guess": guess}


DEFAULT_RISK = RiskModel("default_risk", "bills that stay unpaid", bill_cases, planted_chances)

if __name__ == "__main__":
    sys.exit(run(DEFAULT_RISK))

"""Cases of bills that may stay unpaid. A bill on the day of its order is a case; it is a default if it is unpaid UNPAID_DAYS after it is due.

Features are the bill's amount, and facts about the customer's earlier bills on that day.
"""

from __future__ import annotations

import numpy as np

from app.models.risks.cases import Floats, Split, cases_of
from app.models.risks.order_history import OrderHistory

UNPAID_DAYS = 30.0
TEST_SHARE = 0.25  # of the time from the first to the last bill with a known outcome
NAMES = (
    "amount",
    "earlier bills that were due",
    "earlier bills that were due and not paid",
    "share of due bills not paid",
    "amount not paid of bills that were due",
    "earlier bills not due yet",
    "days that earlier bills took to be paid",
    "mean amount of earlier bills",
    "days as a customer",
)
# Earlier bills, in their state on this bill's day.
_FEATURES = """
WITH earlier AS (
  SELECT b.order_id,
    count(*) FILTER (WHERE e.due < b.day) AS due,
    count(*) FILTER (WHERE e.due < b.day AND NOT coalesce(e.paid_day < b.day, false)) AS unpaid,
    sum(e.gross) FILTER (WHERE e.due < b.day AND NOT coalesce(e.paid_day < b.day, false)) AS unpaid_sum,
    count(*) FILTER (WHERE e.due >= b.day) AS running,
    avg(e.paid_day - e.day) FILTER (WHERE e.paid_day < b.day) AS took,
    avg(ln(1 + e.gross)) AS mean_amount
  FROM bills AS b JOIN bills AS e ON e.customer_id = b.customer_id AND e.day < b.day
  GROUP BY b.order_id
)
SELECT b.order_id, b.customer_id, b.day AS at, ln(1 + b.net) AS f0,
  ln(1 + coalesce(e.due, 0)) AS f1, coalesce(e.unpaid, 0) AS f2,
  (coalesce(e.unpaid, 0) + 0.25) / (coalesce(e.due, 0) + 4) AS f3,
  ln(1 + coalesce(e.unpaid_sum, 0)) AS f4, coalesce(e.running, 0) AS f5,
  coalesce(e.took, 2) AS f6, coalesce(e.mean_amount, ln(1 + b.gross)) AS f7,
  ln(1 + greatest(b.day - c.since, 0)) AS f8,
  b.paid_day IS NULL OR b.paid_day > b.due + $unpaid AS outcome,
  b.paid_day IS NOT NULL AND b.paid_day <= $until AS paid,
  b.due + $unpaid AS known_at
FROM bills AS b JOIN customers AS c USING (customer_id) LEFT JOIN earlier AS e USING (order_id)
ORDER BY b.order_id
"""


def bill_cases(history: OrderHistory) -> Split:
    """Return the bills: earlier ones to train with, later ones to test with, and those unpaid and open today."""
    rows = history.rows(_FEATURES, unpaid=UNPAID_DAYS, until=history.until)
    cases = cases_of(rows, ["order_id", "customer_id"], NAMES)
    known_at, paid = rows["known_at"].to_numpy(), rows["paid"].to_numpy(zero_copy_only=False)
    known = known_at <= history.until
    begin = _test_begin(cases.at[known])
    return Split(
        cases.where(known & (known_at <= begin)),
        cases.where(known & (cases.at > begin)),
        cases.where(~known & ~paid.astype(np.bool_)),
    )


def _test_begin(at: Floats) -> float:
    if not len(at):
        return 0.0
    return float(at.max() - TEST_SHARE * (at.max() - at.min()))

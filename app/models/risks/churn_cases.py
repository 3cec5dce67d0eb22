"""Cases of customers who may stop ordering. A customer at a cut-off is a case; no order within SILENT_DAYS after it is churn.

Features are the inputs of the BG/NBD model (number of orders, time since the last order, time since the first), and
others that an analyst would consider. All come from before the cut-off.
"""

from __future__ import annotations

from app.models.risks.cases import Cases, Split, cases_of, joined
from app.models.risks.order_history import OrderHistory

SILENT_DAYS = 60.0
CUT_OFFS = 10
BETWEEN_DAYS = 30.0
TESTED = 2  # the newest cut-offs with a known outcome
NAMES = (
    "orders",
    "days since the last order",
    "days as a customer",
    "orders in the last 30 days",
    "orders in the last 90 days",
    "orders in the last 180 days",
    "usual days between orders",
    "days since the last order, against the usual ones",
    "mean total",
)
_FEATURES = """
WITH known AS (
  SELECT c.customer_id, any_value(c.since) AS since, count(*) AS orders, max(o.day) AS last,
    count(*) FILTER (WHERE o.day >= $at - 30) AS in_30,
    count(*) FILTER (WHERE o.day >= $at - 90) AS in_90,
    count(*) FILTER (WHERE o.day >= $at - 180) AS in_180,
    avg(o.total) AS mean_total
  FROM customers AS c JOIN orders AS o USING (customer_id)
  WHERE o.day < $at GROUP BY c.customer_id
),
after AS (SELECT DISTINCT customer_id FROM orders WHERE day >= $at AND day < $at + $silent)
SELECT customer_id, $at::DOUBLE AS at, ln(1 + orders) AS f0, ln(1 + $at - last) AS f1,
  ln(1 + greatest($at - since, 0)) AS f2, in_30 AS f3, in_90 AS f4, in_180 AS f5,
  ln(1 + greatest(last - since, 1) / orders) AS f6,
  least(($at - last) * orders / greatest(last - since, 7), 50) AS f7,
  ln(1 + mean_total) AS f8,
  after.customer_id IS NULL AS outcome
FROM known LEFT JOIN after USING (customer_id) ORDER BY customer_id
"""


def churn_at(history: OrderHistory, at: float) -> Cases:
    """Return a case for each customer who had ordered before day `at`."""
    return cases_of(history.rows(_FEATURES, at=at, silent=SILENT_DAYS), ["customer_id"], NAMES)


def churn_cases(history: OrderHistory) -> Split:
    """Return the customers of the last months: earlier ones to train with, later ones to test with, and today's."""
    newest = history.until - SILENT_DAYS
    cut_offs = [newest - BETWEEN_DAYS * number for number in range(CUT_OFFS)]
    tests = cut_offs[:TESTED]
    # The outcome of each training case was known before the first test case.
    training = [at for at in cut_offs[TESTED:] if at + SILENT_DAYS <= min(tests)]
    return Split(
        joined([churn_at(history, at) for at in training]),
        joined([churn_at(history, at) for at in tests]),
        churn_at(history, history.until),
    )

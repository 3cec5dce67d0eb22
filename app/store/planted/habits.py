"""Planted habits: how often a customer orders, when a customer leaves for good, and which bills stay unpaid.

Orders of a customer come at random at the customer's own rate; after each, the customer leaves with a
chance of their own (the model known as BG/NBD). A bill stays unpaid with a chance that grows with the
customer's carelessness and with the amount. Rate, chances and carelessness follow from the ids (`hidden`)
and are not in the database; a model can infer them only from the orders and payments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np

from app.store.planted.hidden import normals, uniforms
from app.store.planted.tastes import SEED

ORDERS_A_MONTH = 0.8  # of the customer in the middle
RATE_SPREAD = 0.8  # deviation of the logarithm
EAGER_ORDERS_A_MONTH = 2.0
LEAVES_MAX = 0.2
MONTH_DAYS = 30.0
UNPAID = -3.4  # log-odds of a bill of USUAL_AMOUNT that a customer of usual care does not pay
CARELESSNESS, AMOUNT = 1.4, 0.7
USUAL_AMOUNT = 60.0
PROMPT_SHARE = 0.7  # of the bills that are paid
# For the others, the days from the order to the payment, all within a bill's term.
LATER_DAYS = 14.0


@dataclass(frozen=True)
class Habits:
    """The habits of one customer.

    Args:
        orders_a_day: the rate of orders while the customer stays.
        leaves: the chance to leave for good after an order.
        carelessness: 0 is usual; one deviation is 1.
    """

    orders_a_day: float
    leaves: float
    carelessness: float

    @property
    def eagerness(self) -> float:
        """The chance that this customer orders at a moment at which an eager one would."""
        return min(1.0, self.orders_a_day * MONTH_DAYS / EAGER_ORDERS_A_MONTH)

    def order_days(self, rng: Random, days: float) -> Iterator[float]:
        """Draw the days of a new customer's orders, counted from the first chance to order."""
        at = rng.expovariate(self.orders_a_day)
        while at < days:
            yield at
            if rng.random() < self.leaves:
                return
            at += rng.expovariate(self.orders_a_day)

    def silent(self, since_last: float, horizon: float) -> float:
        """Return the chance that no order comes within the next days.

        Args:
            since_last: days since the customer's last order.
            horizon: days from now.
        """
        stays = (1 - self.leaves) * math.exp(-self.orders_a_day * since_last)
        stays /= stays + self.leaves
        return 1 - stays + stays * math.exp(-self.orders_a_day * horizon)

    def unpaid(self, amount: float) -> float:
        """Return the chance that a bill of this amount is not paid."""
        odds = UNPAID + CARELESSNESS * self.carelessness
        odds += AMOUNT * math.log(max(amount, 1.0) / USUAL_AMOUNT)
        return 1 / (1 + math.exp(-odds))

    def paid_after_days(self, order_id: int, amount: float) -> float | None:
        """Return after how many days the bill of an order is paid: 0 is at once, None never.

        The result is the same at each call, whichever operation handles the order.
        """
        fate, when, delay = uniforms(SEED, "bill", np.array([order_id]), 3)[0].tolist()
        if fate < self.unpaid(amount):
            return None
        return 0.0 if when < PROMPT_SHARE else 0.1 + delay * (LATER_DAYS - 0.1)


@lru_cache(maxsize=100_000)
def habits_of(customer_id: int, seed: int = SEED) -> Habits:
    """Return the habits of a customer."""
    ids = np.array([customer_id])
    rate, carelessness = normals(seed, "habits", ids, 2)[0]
    return Habits(
        orders_a_day=ORDERS_A_MONTH / MONTH_DAYS * math.exp(RATE_SPREAD * float(rate)),
        leaves=LEAVES_MAX * float(uniforms(seed, "leaves", ids)[0, 0]),
        carelessness=float(carelessness),
    )

"""Planted habits: the stated chances agree with the drawn orders and payments."""

from __future__ import annotations

from random import Random

import pytest

from app.store.planted.habits import ORDERS_A_MONTH, Habits, habits_of

DAYS, HORIZON = 400.0, 60.0
STEADY = Habits(orders_a_day=0.05, leaves=0.1, carelessness=0.0)


def test_a_customer_has_the_same_habits_each_time_and_others_have_others() -> None:
    assert habits_of(7) == habits_of(7) != habits_of(8)
    assert habits_of(7, seed=2) != habits_of(7)


def test_half_of_the_customers_order_more_often_than_the_one_in_the_middle() -> None:
    rates = sorted(habits_of(one).orders_a_day for one in range(1, 2_001))
    assert rates[1_000] * 30 == pytest.approx(ORDERS_A_MONTH, rel=0.1)
    assert rates[100] < rates[1_000] / 2 < rates[1_900] / 4


def test_the_chance_of_silence_is_how_often_customers_with_such_a_history_are_silent() -> None:
    rng = Random(3)
    stated, silent = [], 0
    for _ in range(30_000):
        days = list(STEADY.order_days(rng, DAYS + HORIZON))
        before = [day for day in days if day <= DAYS]
        if before:
            stated.append(STEADY.silent(DAYS - before[-1], HORIZON))
            silent += len(days) == len(before)
    assert silent / len(stated) == pytest.approx(sum(stated) / len(stated), abs=0.01)


def test_silence_is_likelier_the_longer_it_lasts_and_the_rarer_the_customer_orders() -> None:
    chances = [STEADY.silent(days, HORIZON) for days in (0, 30, 90, 365)]
    assert chances == sorted(chances) and chances[0] < 0.2 and chances[-1] > 0.99
    rare = Habits(orders_a_day=0.005, leaves=0.1, carelessness=0.0)
    assert rare.silent(0, HORIZON) > STEADY.silent(0, HORIZON)


def test_a_bill_stays_unpaid_as_often_as_stated_and_each_time_that_it_is_asked() -> None:
    careless = Habits(orders_a_day=1.0, leaves=0.0, carelessness=2.0)
    drawn = [careless.paid_after_days(order, 80.0) for order in range(1, 20_001)]
    assert drawn == [careless.paid_after_days(order, 80.0) for order in range(1, 20_001)]
    assert drawn.count(None) / len(drawn) == pytest.approx(careless.unpaid(80.0), abs=0.01)
    assert max(day for day in drawn if day is not None) <= 14.0
    assert STEADY.unpaid(80.0) < careless.unpaid(80.0) < careless.unpaid(300.0)

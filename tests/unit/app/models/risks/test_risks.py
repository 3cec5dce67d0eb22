"""Chances of the planted store are near the best possible ones, and use only the past."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from app.errors import HeadwaterError
from app.models.risks.bill_cases import NAMES as BILL_NAMES
from app.models.risks.bill_cases import bill_cases
from app.models.risks.cases import Cases, Split, check_known
from app.models.risks.churn import CHURN
from app.models.risks.churn_cases import NAMES as CHURN_NAMES
from app.models.risks.churn_cases import SILENT_DAYS, churn_at, churn_cases
from app.models.risks.classifiers import lift, quality
from app.models.risks.default_risk import DEFAULT_RISK
from app.models.risks.order_history import DAY_S, order_history
from app.models.risks.risk_run import RiskModel, measured, quality_rows, refitted, scored
from app.store.planted.best_guess import unpaid_guess
from tests.support.planted_history import END, PlantedHistory, planted_history, tables_of

NOW = datetime(2026, 2, 1, tzinfo=timezone.utc)
CUT = END - timedelta(days=200)
CUT_DAY = CUT.timestamp() / DAY_S


@pytest.fixture(scope="module")
def small() -> PlantedHistory:
    return planted_history(300)


def noised(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables, with noise instead of all data after the cut-off."""
    orders = [row for row in tables["orders"].to_pylist() if row["placed_at"] < CUT]
    known = {row["order_id"] for row in orders}
    bills = [row for row in tables["invoices"].to_pylist() if row["order_id"] in known]
    paid = [row for row in tables["payments"].to_pylist() if row["paid_at"] < CUT]
    settled = {row["invoice_number"] for row in paid}
    noise = [
        {**row, "order_id": 10**9 + number, "placed_at": CUT + timedelta(hours=7 * number)}
        for number, row in enumerate(orders)
    ]
    late = [
        {**row, "payment_id": f"late {number}", "paid_at": CUT + timedelta(minutes=number)}
        for number, row in enumerate(tables["payments"].to_pylist())
        if row["invoice_number"] not in settled
    ]
    changed = {"orders": orders + noise, "invoices": bills, "payments": paid + late}
    return {
        name: pa.Table.from_pylist(changed.get(name, rows.to_pylist()), rows.schema)
        for name, rows in tables.items()
    }


def test_features_stay_the_same_when_all_after_the_cut_off_is_noise(small: PlantedHistory) -> None:
    before, after = order_history(small.tables), order_history(noised(small.tables))
    one, other = churn_at(before, CUT_DAY), churn_at(after, CUT_DAY)
    assert one.ids == other.ids and len(one) > 100
    np.testing.assert_allclose(one.features, other.features)
    assert (one.outcomes != other.outcomes).any(), "the noise is noise"

    parts = [bill_cases(history) for history in (before, after)]
    found = [
        {
            order: features.tolist()
            for part in (split.training, split.test, split.open)
            for order, at, features in zip(
                part.ids["order_id"].to_pylist(), part.at, part.features, strict=True
            )
            if at < CUT_DAY
        }
        for split in parts
    ]
    both = found[0].keys() & found[1].keys()
    assert len(both) > 500
    for order in both:
        assert found[0][order] == pytest.approx(found[1][order])


def test_no_outcome_of_training_was_unknown_when_the_test_began(small: PlantedHistory) -> None:
    history = order_history(small.tables)
    churn = churn_cases(history)
    assert churn.training.at.max() + SILENT_DAYS <= churn.test.at.min()
    assert churn.test.at.max() + SILENT_DAYS <= history.until
    bills = bill_cases(history)
    assert bills.training.at.max() + 30 + 14 <= bills.test.at.min() + 1
    assert not set(bills.open.ids["order_id"].to_pylist()) & set(
        bills.test.ids["order_id"].to_pylist()
    )


def at(day: int) -> datetime:
    return datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(days=day)


def test_a_bill_paid_too_late_or_in_part_is_a_default_and_one_not_due_is_open() -> None:
    days = {1: 0, 2: 0, 3: 0, 4: 0, 5: 300, 6: 300, 7: 150}
    orders = [(order, 9, 100, at(day)) for order, day in days.items()]
    bills = [(f"I{o}", o, date(2025, 1, 15) + timedelta(days=d), 50, 50) for o, d in days.items()]
    paid = [
        ("a", "I1", 20, at(3)),
        ("b", "I1", 30, at(40)),  # the rest within 30 days after it was due
        ("c", "I2", 50, at(60)),  # too late
        ("d", "I3", 49, at(3)),  # never whole
        ("e", "I5", 50, at(300)),  # paid before it was due
    ]
    tables = tables_of(
        {"customers": [(9, at(-10))], "orders": orders, "invoices": bills, "payments": paid}
    )
    split = bill_cases(order_history(tables))
    known = {
        order: bool(outcome)
        for part in (split.training, split.test)
        for order, outcome in zip(
            part.ids["order_id"].to_pylist(), part.outcomes.tolist(), strict=True
        )
    }
    assert known == {1: False, 2: True, 3: True, 4: True, 7: True}
    assert split.open.ids["order_id"].to_pylist() == [6]
    [features] = split.open.features
    named = dict(zip(BILL_NAMES, features.tolist(), strict=True))
    assert named["earlier bills that were due and not paid"] == 3  # 3, 4 and 7; 2 was paid, late
    assert named["earlier bills not due yet"] == 0


def test_silence_counts_from_the_cut_off_and_customers_without_orders_are_no_cases() -> None:
    orders = [(1, 1, 10, at(0)), (2, 1, 10, at(130)), (3, 2, 10, at(5)), (4, 3, 10, at(165))]
    people = [(one, at(-100)) for one in (1, 2, 3, 4)]
    history = order_history(tables_of({"customers": people, "orders": orders}))
    cases = churn_at(history, at(100).timestamp() / DAY_S)
    assert cases.ids["customer_id"].to_pylist() == [1, 2]
    assert cases.outcomes.tolist() == [False, True]


def test_too_few_cases_and_no_order_at_all_are_plain_errors() -> None:
    with pytest.raises(HeadwaterError, match="there is no order to learn from"):
        order_history(tables_of({"customers": [(1, at(0))]}))
    orders = [(n, n % 7, 10, at(3 * n)) for n in range(200)]
    history = order_history(
        tables_of({"customers": [(n, at(0)) for n in range(7)], "orders": orders})
    )
    with pytest.raises(HeadwaterError, match="too few cases of customers who leave to learn from"):
        measured(CHURN, history, 1, None)
    nothing = bill_cases(history)
    assert len(nothing.training) == len(nothing.open) == 0
    with pytest.raises(HeadwaterError, match="too few cases of bills"):
        check_known("bills", nothing)


def test_equal_chances_have_no_lift_and_the_best_order_has_all_of_it() -> None:
    outcomes = np.array([True] * 10 + [False] * 90)
    assert lift(outcomes, np.full(100, 0.1)) == pytest.approx(1)
    assert lift(outcomes, np.arange(100, 0, -1) / 100) == pytest.approx(10)
    assert quality(outcomes, np.arange(100) / 100).roc_auc == 0


@pytest.mark.unhurried
@pytest.mark.parametrize(
    ("model", "best", "names"),
    [(CHURN, "planted optimum", CHURN_NAMES), (DEFAULT_RISK, "best guess", BILL_NAMES)],
    ids=["churn", "default_risk"],
)
def test_chances_come_near_the_best_that_can_be_known(
    model: RiskModel, best: str, names: tuple[str, ...]
) -> None:
    store = planted_history(2_500)
    split, risk, found = measured(model, order_history(store.tables), 1, store.truth)
    assert found[risk.method].roc_auc >= found[best].roc_auc - 0.03
    assert found[risk.method].brier < found["share of all"].brier
    assert found[risk.method].lift > found["share of all"].lift
    assert found["planted optimum"].roc_auc >= found[best].roc_auc

    rows = scored(split, refitted(split, risk, 1), NOW).to_pylist()
    assert len(rows) == len(split.open)
    chances = [row["chance"] for row in rows]
    assert chances == sorted(chances, reverse=True) and 0 < chances[-1] < chances[0] < 1
    assert {one for row in rows for one in (row["reasons"] or "").split(", ")} & set(names)
    figures = quality_rows(found, split, 1, NOW)
    assert set(figures["measure"].to_pylist()) == {"roc_auc", "pr_auc", "brier", "lift"}


def test_open_cases_may_be_none(small: PlantedHistory) -> None:
    history = order_history(small.tables)
    split = churn_cases(history)
    nobody = split.open.where(np.zeros(len(split.open), np.bool_))
    _, risk, _ = measured(CHURN, history, 1, None)
    empty = scored(Split(split.training, split.test, nobody), risk, NOW)
    assert len(empty) == 0 and "chance" in empty.column_names
    assert isinstance(nobody, Cases)


def test_the_best_guess_of_a_bill_follows_the_bills_before() -> None:
    alone = unpaid_guess(60, [])
    assert unpaid_guess(60, [(60, True)] * 10) < alone < unpaid_guess(60, [(60, False)])
    assert unpaid_guess(20, []) < alone < unpaid_guess(200, [])

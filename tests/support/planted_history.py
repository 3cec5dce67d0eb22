"""Customers, orders, bills and payments with the demo store's planted habits, without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from random import Random
from typing import Any

import pyarrow as pa

from app.store.planted.habits import habits_of

END = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAYS = 730.0
DUE_DAYS = 14
_TIME = pa.timestamp("us", "UTC")
_MONEY = pa.decimal128(12, 2)
_SCHEMAS = {
    "customers": pa.schema([("customer_id", pa.int64()), ("created_at", _TIME)]),
    "orders": pa.schema(
        [
            ("order_id", pa.int64()),
            ("customer_id", pa.int64()),
            ("total", _MONEY),
            ("placed_at", _TIME),
        ]
    ),
    "invoices": pa.schema(
        [
            ("invoice_number", pa.string()),
            ("order_id", pa.int64()),
            ("due_on", pa.date32()),
            ("gross", _MONEY),
            ("net", _MONEY),
        ]
    ),
    "payments": pa.schema(
        [
            ("payment_id", pa.string()),
            ("invoice_number", pa.string()),
            ("amount", _MONEY),
            ("paid_at", _TIME),
        ]
    ),
}


@dataclass(frozen=True)
class PlantedHistory:
    """The tables in silver's form, and the truth that `store grow --truth` writes about them."""

    tables: dict[str, pa.Table]
    truth: dict[str, Any]


def tables_of(rows: Mapping[str, Sequence[Sequence[object]]]) -> dict[str, pa.Table]:
    """The four tables, from rows in the order of their columns."""
    return {
        name: pa.Table.from_pylist(
            [dict(zip(schema.names, row, strict=True)) for row in rows.get(name, ())], schema
        )
        for name, schema in _SCHEMAS.items()
    }


def planted_history(customers: int, seed: int = 1) -> PlantedHistory:
    """Draw two years of this many customers."""
    rng = Random(seed)
    rows: dict[str, list[Sequence[object]]] = {name: [] for name in _SCHEMAS}
    habits, bills = [], []
    order_id = 0
    for customer in range(1, customers + 1):
        own = habits_of(customer)
        habits.append((customer, own.orders_a_day, own.leaves, own.carelessness))
        since = END - timedelta(days=30 + rng.random() * (DAYS - 30))
        rows["customers"].append((customer, since))
        for day in own.order_days(rng, (END - since) / timedelta(days=1)):
            order_id += 1
            at = since + timedelta(days=day)
            amount = round(rng.choice((8, 12, 15)) * rng.choice((1, 1, 2, 4, 8, 15)) * 1.0, 2)
            rows["orders"].append((order_id, customer, _money(amount), at))
            bills.append((order_id, own.unpaid(amount)))
            _bill(rows, order_id, amount, at, own.paid_after_days(order_id, amount))
    return PlantedHistory(tables_of(rows), {"habits": habits, "bills": bills})


def _bill(
    rows: dict[str, list[Sequence[object]]],
    order_id: int,
    amount: float,
    at: datetime,
    paid_after: float | None,
) -> None:
    number, due = f"INV-{order_id}", date.fromordinal(at.date().toordinal() + DUE_DAYS)
    rows["invoices"].append((number, order_id, due, _money(amount), _money(amount)))
    if paid_after is not None and at + timedelta(days=paid_after) <= END:
        paid_at = at + timedelta(days=paid_after)
        rows["payments"].append((f"{order_id}", number, _money(amount), paid_at))


def _money(amount: float) -> Any:
    return pa.scalar(f"{amount:.2f}").cast(_MONEY).as_py()

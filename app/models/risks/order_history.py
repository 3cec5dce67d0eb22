"""Reads customers, orders, bills and payments from silver into the tables from which features are made.

It reads only columns that the store never rewrites, so their values at a past moment are known. So it reads
neither `status` nor `updated_at`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from app.errors import HeadwaterError
from app.models.model_tables import ModelTables

DAY_S = 86_400

# Times become days since 1970. A bill is paid when payments reach its gross amount.
_TABLES = """
CREATE TABLE customers AS
  SELECT customer_id, epoch(created_at) / 86400 AS since FROM given_customers
  WHERE customer_id IS NOT NULL AND created_at IS NOT NULL;
CREATE TABLE orders AS
  SELECT customer_id, order_id, epoch(placed_at) / 86400 AS day, total::DOUBLE AS total FROM given_orders
  WHERE customer_id IS NOT NULL AND placed_at IS NOT NULL AND isfinite(total::DOUBLE);
CREATE TABLE paid_sums AS
  SELECT invoice_number, epoch(paid_at) / 86400 AS day,
    sum(amount) OVER (PARTITION BY invoice_number ORDER BY paid_at, payment_id) AS so_far
  FROM given_payments WHERE paid_at IS NOT NULL;
CREATE TABLE bills AS
  SELECT i.order_id, o.customer_id, o.day, datediff('day', DATE '1970-01-01', i.due_on)::DOUBLE AS due,
    i.gross::DOUBLE AS gross, i.net::DOUBLE AS net,
    (SELECT min(p.day) FROM paid_sums AS p
      WHERE p.invoice_number = i.invoice_number AND p.so_far >= i.gross) AS paid_day
  FROM given_invoices AS i JOIN orders AS o USING (order_id)
  WHERE i.due_on IS NOT NULL AND i.gross IS NOT NULL AND i.net IS NOT NULL;
"""
_READ = {
    "customers": ["customer_id", "created_at"],
    "orders": ["order_id", "customer_id", "total", "placed_at"],
    "invoices": ["invoice_number", "order_id", "due_on", "gross", "net"],
    "payments": ["payment_id", "invoice_number", "amount", "paid_at"],
}


@dataclass(frozen=True)
class OrderHistory:
    """Tables of an in-memory DuckDB.

    `customers(customer_id, since)`, `orders(customer_id, order_id, day, total)` and
    `bills(order_id, customer_id, day, due, gross, net, paid_day)`. Days since 1970, UTC; `paid_day` is
    NULL for a bill that is not paid.
    """

    database: duckdb.DuckDBPyConnection
    until: float

    def rows(self, sql: str, **values: object) -> pa.Table:
        """Return the rows of a query; `values` are its named parameters."""
        found: Any = self.database.execute(sql, values)
        return found.to_arrow_table()


def order_history(given: dict[str, pa.Table]) -> OrderHistory:
    """Make the history of the tables `customers`, `orders`, `invoices` and `payments`.

    Raises: HeadwaterError if nobody has ordered.
    """
    database = duckdb.connect(":memory:", config={"threads": 2})
    for name, rows in given.items():
        database.register(f"given_{name}", rows)
    database.execute(_TABLES)
    [until] = database.execute("SELECT max(day) FROM orders").fetchone() or (None,)
    if until is None:
        raise HeadwaterError(
            "there is no order to learn from",
            detail="silver.orders has no row with a customer, a time and a total",
            hint="`./headwater store grow` adds two years of orders",
        )
    return OrderHistory(database, float(until))


def read_history(tables: ModelTables) -> OrderHistory:
    """Read the history from silver. Raises: HeadwaterError if a table does not exist, or nobody has ordered."""
    return order_history({name: tables.read(name, columns) for name, columns in _READ.items()})

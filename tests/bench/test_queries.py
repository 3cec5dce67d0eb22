"""Ten fixed queries in Trino on silver tables as changes left them, beside the same rows freshly written.

A first snapshot fills the tables; then a tenth of their rows are changed. Each query must give the same answer from silver and from
the compacted copy. Then both are timed in turns, first on a quiet stack, then while the queried table changes.
HEADWATER_BENCH_ROWS sets the rows (orders; a twentieth as many customers).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import psycopg
import pytest

from app.lake.lakehouse import Lakehouse
from tests.support.circumstances import proof
from tests.support.measure import percentiles, report, watched
from tests.support.silver_end import await_silver
from tests.support.stack import Stack, fresh_stack

ROWS = int(os.environ.get("HEADWATER_BENCH_ROWS", "1000000"))
ROUNDS = int(os.environ.get("HEADWATER_BENCH_ROUNDS", "5"))
CUSTOMERS = ROWS // 20
CHANGED_AT_ONCE, CHANGED_SHARE = 1_000, 10
LOAD_PER_S = 50
SEED = 1
WITHIN_S = 3_000.0
COPY = "lake.bench"
TABLES = ("q_orders", "q_customers")
CREATE = (
    "CREATE TABLE q_customers (id bigint PRIMARY KEY, name text, country text)",
    "CREATE TABLE q_orders (id bigint PRIMARY KEY, customer_id bigint, status text, note text, "
    "price numeric(12,2), quantity int, placed_at timestamptz)",
    "INSERT INTO q_customers SELECT i, 'customer ' || i, 'country ' || i % 40 "
    f"FROM generate_series(1, {CUSTOMERS}) i",
    f"INSERT INTO q_orders SELECT i, 1 + i::bigint * 7919 % {CUSTOMERS}, 'status ' || i % 5, "
    "'note ' || md5(i::text), (i % 100000) / 100.0, i % 9, "
    f"timestamptz '2026-01-01 00:00Z' + i * interval '1 minute' FROM generate_series(1, {ROWS}) i",
)
CHANGE = "UPDATE q_orders SET status = 'status ' || (%(n)s %% 5), price = price + 1 WHERE id = ANY(%(ids)s)"
QUERIES = {
    "count": "SELECT count(*) FROM {s}.q_orders",
    "one row": f"SELECT * FROM {{s}}.q_orders WHERE id = {ROWS // 3}",
    "a thousand keys": "SELECT sum(price), max(note) FROM {s}.q_orders "
    f"WHERE id BETWEEN {ROWS // 2} AND {ROWS // 2 + 999}",
    "groups": "SELECT status, count(*), sum(price), max(quantity) FROM {s}.q_orders GROUP BY 1",
    "a day": "SELECT count(*), sum(price) FROM {s}.q_orders WHERE placed_at >= TIMESTAMP "
    "'2026-02-01 00:00:00 UTC' AND placed_at < TIMESTAMP '2026-02-02 00:00:00 UTC'",
    "best customers": "SELECT customer_id, sum(price) FROM {s}.q_orders GROUP BY 1 "
    "ORDER BY 2 DESC, 1 LIMIT 10",
    "join": "SELECT c.country, count(*), sum(o.price) FROM {s}.q_orders o "
    "JOIN {s}.q_customers c ON c.id = o.customer_id GROUP BY 1",
    "distinct": "SELECT count(DISTINCT customer_id) FROM {s}.q_orders",
    "text": "SELECT count(*) FROM {s}.q_orders WHERE note LIKE '%abc%'",
    "newest of each": "SELECT count(*), sum(price) FROM (SELECT price, row_number() OVER "
    "(PARTITION BY customer_id ORDER BY placed_at DESC, id DESC) AS n FROM {s}.q_orders) WHERE n = 1",
}  # fmt: skip
pytestmark = pytest.mark.timeout(7_200)


def test_ten_queries_on_silver_and_on_a_compacted_copy() -> None:
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        with stack.source() as source, source.transaction():
            for statement in CREATE:
                source.execute(statement.encode())
        stack.up()
        await_silver(stack, within_s=WITHIN_S)
        rng = Random(f"queries:{SEED}")
        with stack.source() as source:
            for turn in range(ROWS // CHANGED_SHARE // CHANGED_AT_ONCE):
                change(source, rng, turn, CHANGED_AT_ONCE)
                time.sleep(0.02)  # many small merges, as a life of single changes leaves them
        await_silver(stack, within_s=WITHIN_S)
        before = proof(stack, TABLES, SEED)
        stack.query(f"CREATE SCHEMA {COPY}")
        for table in TABLES:
            stack.query(f"CREATE TABLE {COPY}.{table} AS SELECT * FROM silver.{table} ORDER BY id")
        differing = [
            name for name in QUERIES if answer(stack, name, "silver") != answer(stack, name, COPY)
        ]
        assert differing == [], f"other answers: {differing}"
        figures = {
            "rows": ROWS,
            "files": {table: files_of(stack, table) for table in TABLES},
            "quiet": timed(stack),
        }
        with changing(stack, rng), watched(stack, every_s=5.0) as resources:
            figures["under_load"] = timed(stack)
        await_silver(stack, within_s=WITHIN_S)
        proof(stack, TABLES, SEED)
        report("queries", figures | resources.as_dict() | before | {"answers": "equal"})


def answer(stack: Stack, name: str, schema: str) -> list[str]:
    """A query's rows in a fixed order."""
    return sorted(map(repr, stack.query(QUERIES[name].format(s=schema))))


def timed(stack: Stack) -> dict[str, Any]:
    """Query → seconds on silver and on the copy, in ROUNDS by turns."""
    found: dict[str, dict[str, list[float]]] = {n: {"silver": [], "copy": []} for n in QUERIES}
    for _ in range(ROUNDS):
        for name, statement in QUERIES.items():
            for where, schema in (("silver", "silver"), ("copy", COPY)):
                began = time.monotonic()
                stack.query(statement.format(s=schema))
                found[name][where].append(time.monotonic() - began)
    return {n: {where: percentiles(s) for where, s in both.items()} for n, both in found.items()}


def files_of(stack: Stack, table: str) -> dict[str, int]:
    """The files of a silver table, and their bytes."""
    actions = Lakehouse(stack.settings).silver(table).get_add_actions(flatten=True)
    sizes = actions["size_bytes"].to_pylist()
    return {"files": len(sizes), "bytes": sum(sizes)}


def change(source: psycopg.Connection[Any], rng: Random, turn: int, rows: int) -> None:
    """Update random orders in one transaction."""
    source.execute(CHANGE, {"n": turn, "ids": rng.sample(range(1, ROWS + 1), rows)})


@contextmanager
def changing(stack: Stack, rng: Random) -> Iterator[None]:
    """Update single orders at LOAD_PER_S meanwhile."""
    stop = threading.Event()

    def run() -> None:
        with stack.source() as source:
            turn = 0
            while not stop.wait(1 / LOAD_PER_S):
                change(source, rng, turn, 1)
                turn += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)

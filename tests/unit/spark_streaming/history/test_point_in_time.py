"""The report `prices_then`: each order at the price of its time, from bronze to the view's answer."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot

from app.catalog.views import read_views
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.history import history_pass
from tests.unit.debezium_events import event
from tests.unit.spark_streaming.history.history_world import HistoryWorld

ROOT = Path(__file__).resolve().parents[4]
[VIEW] = [
    view for view in read_views(ROOT / "trino" / "views") if view.name == "reports.prices_then"
]
# Stands for the demo's movies; the model's topic is that of `films`.
MOVIES = Contract(
    schema="public",
    table="films",
    columns=(
        Column("id", "integer", "int32", nullable=False, base_type="int4"),
        Column("price", "numeric(10,2)", "decimal", precision=10, scale=2, base_type="numeric"),
    ),
    key=("id",),
)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MOVIE_COUNT, COMMITS, ORDERS = 5, 60, 200
DAY_MS = 86_400_000
Commit = tuple[int, int, Decimal | None]


def commits_of(random: Random) -> list[Commit]:
    """(time in ms, movie, its new price; None: it is deleted), in order; each is a transaction."""
    prices: dict[int, Decimal] = {}
    found: list[Commit] = []
    for number in range(COMMITS):
        movie = random.randint(1, MOVIE_COUNT)
        gone = movie in prices and random.random() < 0.15
        price = None if gone else Decimal(random.randint(100, 2000)) / 100
        found.append(((number + 1) * DAY_MS // 8, movie, price))
        if price is None:
            del prices[movie]
        else:
            prices[movie] = price
    return found


def put(world: HistoryWorld, commits: list[Commit]) -> None:
    """Put the changes into bronze, each with the time of its commit."""
    there: dict[int, Decimal] = {}
    events = []
    for number, (at_ms, movie, price) in enumerate(commits):
        op = "d" if price is None else "u" if movie in there else "c"
        before = {"id": movie, "price": str(there[movie])} if movie in there else None
        after = None if price is None else {"id": movie, "price": str(price)}
        previous = commits[number - 1][0] if number else 1
        events.append(
            event(op, lsn=at_ms - 1, key={"id": movie}, before=before, after=after,
                  commit=previous, offset=number, snapshot="false", ts_us=at_ms * 1000)
        )  # fmt: skip
        if price is None:
            del there[movie]
        else:
            there[movie] = price
    world.put(events)
    world.commit([at_ms for at_ms, _, _ in commits])


def expected(commits: list[Commit], lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The report's rows, from the commits alone."""
    days: dict[int, list[tuple[Decimal, Decimal, Decimal | None]]] = defaultdict(list)
    now = {movie: price for _, movie, price in commits}
    for line in lines:
        then = [
            price for at, movie, price in commits if movie == line["movie"] and at <= line["at"]
        ]
        if then and then[-1] is not None:
            now_price, count = now[line["movie"]], line["quantity"]
            at_now = None if now_price is None else count * now_price
            days[line["at"] // DAY_MS].append((count * line["paid"], count * then[-1], at_now))
    return [
        (
            EPOCH + timedelta(days=day),
            len(some),
            sum(paid for paid, _, _ in some),
            sum(then for _, then, _ in some),
            sum(at for _, _, at in some if at is not None) or None,
        )
        for day, some in sorted(days.items())
    ]


def answer(world: HistoryWorld, commits: list[Commit], lines: list[dict[str, Any]]) -> Any:
    """The view's rows, by DuckDB in Trino's place."""
    now = {movie: price for _, movie, price in commits}
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA history")
    history = (
        world.lake.table("history/films").to_pyarrow_table().rename_columns({"id": "movie_id"})
    )
    tables = {
        "history.movies": history,
        "silver.movies": pa.table(
            {
                "movie_id": [movie for movie, price in now.items() if price is not None],
                "price": [price for price in now.values() if price is not None],
            }
        ),
        "silver.orders": pa.table(
            {
                "order_id": range(len(lines)),
                "placed_at": pa.array(
                    [line["at"] * 1000 for line in lines], pa.timestamp("us", "UTC")
                ),
            }
        ),
        "silver.order_lines": pa.table(
            {
                "order_id": range(len(lines)),
                "movie_id": [line["movie"] for line in lines],
                "quantity": [line["quantity"] for line in lines],
                "unit_price": [line["paid"] for line in lines],
            }
        ),
    }
    for name, rows in tables.items():
        database.register("given", rows)
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
    [asked] = sqlglot.transpile(VIEW.select, read="trino", write="duckdb")
    return database.execute(f"SELECT * FROM ({asked}) ORDER BY day").fetchall()


def test_the_report_has_each_order_at_the_price_of_its_time(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_pass, "MARGIN_MS", 0)
    random = Random(seed)
    commits = commits_of(random)
    lines = [
        {
            # Also at the very moment of a change, and before the first one.
            "at": random.choice(
                [random.choice(commits)[0], random.randint(0, commits[-1][0] + DAY_MS)]
            ),
            "movie": random.randint(1, MOVIE_COUNT),
            "quantity": random.randint(1, 3),
            "paid": Decimal(random.randint(100, 2000)) / 100,
        }
        for _ in range(ORDERS)
    ]
    world = HistoryWorld(tmp_path, 'history = "each"', MOVIES)
    put(world, commits)
    world.process().run()
    assert answer(world, commits, lines) == expected(commits, lines), seed

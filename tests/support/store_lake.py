"""Silver tables of a small movie store with random rows, and the expected answers of the reports.

The answers are computed in plain Python from the same rows, without SQL.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, defaultdict
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pyarrow as pa

Rows = list[dict[str, Any]]
MOVIES = 1_100  # more than the thousand of the report
CUSTOMERS = 130  # more than the hundred of the report
_TIME = pa.timestamp("us", "UTC")
_START = dt.datetime(2026, 11, 20, 22, 15, 30, 123456, tzinfo=dt.timezone.utc)

SCHEMAS = {
    "customers": pa.schema(
        [("customer_id", pa.int64()), ("full_name", pa.string()), ("country", pa.string())]
    ),
    "movies": pa.schema(
        [
            ("movie_id", pa.int64()),
            ("title", pa.string()),
            ("tagline", pa.string()),
            ("description", pa.string()),
            ("release_year", pa.int16()),
            ("released_on", pa.date32()),
            ("runtime_minutes", pa.int16()),
            ("languages", pa.list_(pa.string())),
            ("imdb_id", pa.int32()),
            ("tmdb_id", pa.int32()),
        ]
    ),
    "movie_genres": pa.schema([("movie_id", pa.int64()), ("genre_id", pa.int16())]),
    "ratings": pa.schema(
        [("customer_id", pa.int64()), ("movie_id", pa.int64()), ("stars", pa.decimal128(2, 1))]
    ),
    "tags": pa.schema([("tag_id", pa.int64()), ("movie_id", pa.int64()), ("tag", pa.string())]),
    "orders": pa.schema([("order_id", pa.int64()), ("customer_id", pa.int64())]),
    "invoices": pa.schema([("invoice_number", pa.string()), ("order_id", pa.int64())]),
    "payments": pa.schema(
        [
            ("payment_id", pa.string()),
            ("invoice_number", pa.string()),
            ("amount", pa.decimal128(12, 2)),
            ("paid_at", _TIME),
        ]
    ),
}


def store_rows(seed: int) -> dict[str, Rows]:
    """Random rows for every table of SCHEMAS."""
    chance = random.Random(seed)
    rows: dict[str, Rows] = {name: [] for name in SCHEMAS}
    for customer in range(1, CUSTOMERS + 1):
        name, country = f"Customer {customer}", chance.choice(["IT", "DE", "US"])
        rows["customers"].append({"customer_id": customer, "full_name": name, "country": country})
    for movie in range(1, MOVIES + 1):
        rows["movies"].append(_movie(chance, movie))
        for genre in chance.sample(range(1, 20), chance.randrange(0, 4)):
            rows["movie_genres"].append({"movie_id": movie, "genre_id": genre})
        for customer in chance.sample(range(1, CUSTOMERS + 1), chance.randrange(0, 12)):
            stars = Decimal(chance.randrange(1, 11)) / 2
            rows["ratings"].append({"customer_id": customer, "movie_id": movie, "stars": stars})
        for tag in range(chance.randrange(0, 3)):
            rows["tags"].append({"tag_id": movie * 10 + tag, "movie_id": movie, "tag": "good"})
    for order in range(1, 401):
        _order(chance, order, rows)
    return rows


def arrow(rows: dict[str, Rows]) -> dict[str, pa.Table]:
    """The rows as Arrow tables."""
    return {name: pa.Table.from_pylist(rows[name], schema=SCHEMAS[name]) for name in rows}


def expected_reports(rows: dict[str, Rows]) -> dict[str, list[tuple[Any, ...]]]:
    """The answer of each report, ordered by its rank or first column."""
    most, best = _rated(rows)
    return {
        "revenue_by_hour": _revenue(rows),
        "top_customers": _top_customers(rows),
        "most_rated_movies": most,
        "best_rated_movies": best,
        "rating_distribution": _distribution(rows),
        "catalogue_completeness": _completeness(rows),
    }


def _movie(chance: random.Random, movie: int) -> dict[str, Any]:
    def maybe(value: Any) -> Any:
        return value if chance.random() < 0.7 else None

    return {
        "movie_id": movie,
        "title": f"Movie {movie}",
        "tagline": chance.choice([None, "", "A tale"]),
        "description": maybe("long " * 50),
        "release_year": maybe(chance.randrange(1920, 2027)),
        "released_on": maybe(dt.date(2001, 2, 3)),
        "runtime_minutes": maybe(100),
        "languages": chance.choice([[], ["it"], ["en", "it"]]),
        "imdb_id": maybe(movie),
        "tmdb_id": maybe(movie),
    }


def _order(chance: random.Random, order: int, rows: dict[str, Rows]) -> None:
    rows["orders"].append({"order_id": order, "customer_id": chance.randrange(1, CUSTOMERS + 1)})
    invoice = f"2026-{order:05}"
    rows["invoices"].append({"invoice_number": invoice, "order_id": order})
    for part in range(chance.choice([0, 1, 1, 1, 2])):
        rows["payments"].append(
            {
                "payment_id": f"{order}-{part}",
                "invoice_number": invoice,
                "amount": Decimal(chance.randrange(1, 10_000)) / 100,
                "paid_at": _START + dt.timedelta(seconds=chance.randrange(0, 12 * 3_600)),
            }
        )


def _revenue(rows: dict[str, Rows]) -> list[tuple[Any, ...]]:
    hours: dict[dt.datetime, Rows] = defaultdict(list)
    for payment in rows["payments"]:
        hours[payment["paid_at"].replace(minute=0, second=0, microsecond=0)].append(payment)
    return [
        (hour, len(paid), len({p["invoice_number"] for p in paid}), sum(p["amount"] for p in paid))
        for hour, paid in sorted(hours.items())
    ]


def _top_customers(rows: dict[str, Rows]) -> list[tuple[Any, ...]]:
    customer_of = {order["order_id"]: order["customer_id"] for order in rows["orders"]}
    order_of = {invoice["invoice_number"]: invoice["order_id"] for invoice in rows["invoices"]}
    paid: dict[int, Rows] = defaultdict(list)
    for payment in rows["payments"]:
        paid[customer_of[order_of[payment["invoice_number"]]]].append(payment)
    about = {customer["customer_id"]: customer for customer in rows["customers"]}
    revenue = {customer: sum(p["amount"] for p in of) for customer, of in paid.items()}
    ranked = sorted(revenue, key=lambda customer: (-revenue[customer], customer))[:100]
    return [
        (
            rank,
            customer,
            about[customer]["full_name"],
            about[customer]["country"],
            len({order_of[p["invoice_number"]] for p in paid[customer]}),
            revenue[customer],
            # Trino reads a timestamp with time zone in milliseconds, not microseconds.
            _to_milliseconds(max(p["paid_at"] for p in paid[customer])),
        )
        for rank, customer in enumerate(ranked, 1)
    ]


def _rated(rows: dict[str, Rows]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    stars: dict[int, list[Decimal]] = defaultdict(list)
    for rating in rows["ratings"]:
        stars[rating["movie_id"]].append(rating["stars"])
    about = {movie["movie_id"]: movie for movie in rows["movies"]}
    mean = {movie: _round(sum(of, Decimal(0)) / len(of)) for movie, of in stars.items()}

    def line(rank: int, movie: int) -> tuple[Any, ...]:
        return (rank, movie, about[movie]["title"], about[movie]["release_year"])

    most = sorted(stars, key=lambda movie: (-len(stars[movie]), movie))[:1000]
    weighted = _weighted({m: mean[m] for m in most}, {m: len(stars[m]) for m in most})
    best = sorted(most, key=lambda movie: (-weighted[movie], -len(stars[movie]), movie))[:100]
    return (
        [(*line(rank, m), len(stars[m]), mean[m]) for rank, m in enumerate(most, 1)],
        [(*line(rank, m), mean[m], weighted[m], len(stars[m])) for rank, m in enumerate(best, 1)],
    )


def _weighted(mean: dict[int, Decimal], count: dict[int, int]) -> dict[int, Decimal]:
    """Movie → its mean, with ten additional ratings at the mean of all."""
    overall = _round(sum((mean[m] * count[m] for m in mean), Decimal(0)) / sum(count.values()))
    return {m: _round((mean[m] * count[m] + 10 * overall) / (count[m] + 10)) for m in mean}


def _distribution(rows: dict[str, Rows]) -> list[tuple[Any, ...]]:
    counted = Counter(rating["stars"] for rating in rows["ratings"])
    return [(stars, n, _percent(n, len(rows["ratings"]))) for stars, n in sorted(counted.items())]


def _completeness(rows: dict[str, Rows]) -> list[tuple[Any, ...]]:
    movies = rows["movies"]
    plain = ("tagline", "description", "languages")
    numbers = ("release_year", "released_on", "runtime_minutes", "imdb_id", "tmdb_id")
    filled = {name: sum(bool(movie[name]) for movie in movies) for name in plain}
    filled |= {name: sum(movie[name] is not None for movie in movies) for name in numbers}
    for name, table in (("genres", "movie_genres"), ("tags", "tags"), ("ratings", "ratings")):
        filled[name] = len({row["movie_id"] for row in rows[table]})
    return [
        (name, len(movies), n, len(movies) - n, _percent(n, len(movies)))
        for name, n in sorted(filled.items())
    ]


def _percent(part: int, whole: int) -> Decimal:
    return _round(Decimal(100 * part) / whole)


def _round(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _to_milliseconds(time: dt.datetime) -> dt.datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)

"""Fills an empty movie store by COPY: the same rows for the same seed and scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from random import Random

from sqlalchemy import Connection, Engine, Table, func, select, text

from app.errors import HeadwaterError
from app.store.planted.habits import habits_of
from app.store.planted.tastes import TASTES
from app.store.tables import make, schema, vocabulary
from app.store.tables.create import create_within
from app.store.tables.store_connection import copy_rows

ORDER_DAYS = 730
# Most orders are recent, so that the hour in which the workload begins looks like those before it.
_RECENT_DAYS = 2
_RECENT_SHARE = 0.7
SCALE_MAX = 1_000
# Orders span four tables. This many are made, then copied table by table, in bounded memory.
_ORDERS_PER_CHUNK = 5_000
_STATES = ("delivered",) * 17 + ("cancelled", "shipped", "paid")


@dataclass(frozen=True)
class Sizes:
    """Rows to make; ratings and tags are upper bounds (one customer rates a movie once)."""

    customers: int = 500
    movies: int = 1_000
    ratings: int = 10_000
    tags: int = 1_000
    orders: int = 1_200

    @classmethod
    def scaled(cls, scale: float) -> Sizes:
        """The default sizes times `scale` (0.01 to 1,000)."""
        if not 0.01 <= scale <= SCALE_MAX:
            raise HeadwaterError(
                "the scale is out of range",
                detail=f"observed {scale}",
                hint=f"take one from 0.01 to {SCALE_MAX}; 1 makes 1,000 movies",
            )
        return cls(*(round(size * scale) for size in (500, 1_000, 10_000, 1_000, 1_200)))


def seed_store(
    engine: Engine,
    *,
    seed: int = 1,
    sizes: Sizes | None = None,
    ends_at: datetime | None = None,
) -> dict[str, int]:
    """Create the store if it is missing and fill it if it is empty, in one transaction.

    A crash in the middle leaves nothing; a store that has movies or customers is left as it is.

    Args:
        seed: the same seed, sizes and end give the same rows, column by column.
        sizes: how many rows; the small default when None.
        ends_at: when the store's history ends; now when None. No order, payment,
            rating or tag is later.
    Returns: rows copied per table; empty if the store was filled before.
    """
    with engine.begin() as connection:
        create_within(connection)
        if _is_filled(connection):
            return {}
        end = ends_at or datetime.now(timezone.utc)
        copied = _fill(connection, seed, sizes or Sizes(), end)
        for table in schema.TABLES:
            _continue_identity(connection, table)
    # The planner must not take the fresh tables for empty ones until autovacuum comes by.
    with engine.begin() as connection:
        connection.execute(text(f"analyze {', '.join(t.name for t in schema.TABLES)}"))
    return copied


def _is_filled(connection: Connection) -> bool:
    for table in (schema.movies, schema.customers):
        if connection.execute(select(1).select_from(table).limit(1)).first() is not None:
            return True
    return False


def _fill(connection: Connection, seed: int, sizes: Sizes, end: datetime) -> dict[str, int]:
    copied: dict[str, int] = {}

    def copy(table: Table, rows: Iterator[Mapping[str, object]]) -> None:
        copied[table.name] = copied.get(table.name, 0) + copy_rows(connection, table, rows)

    prices: list[Decimal] = []
    countries: list[str] = []
    if not connection.execute(select(func.count()).select_from(schema.genres)).scalar_one():
        copy(schema.genres, genre_rows())
    copy(schema.customers, _customers(Random(f"{seed}:customers"), sizes, end, countries))
    copy(schema.movies, _movies(Random(f"{seed}:movies"), sizes, end, prices))
    copy(schema.movie_genres, _movie_genres(Random(f"{seed}:movie_genres"), sizes))
    copy(schema.ratings, _ratings(Random(f"{seed}:ratings"), sizes, end))
    copy(schema.tags, _tags(Random(f"{seed}:tags"), sizes, end))
    orders = _orders(Random(f"{seed}:orders"), sizes, end, prices, countries)
    while chunk := list(islice(orders, _ORDERS_PER_CHUNK)):
        copy(schema.orders, (bundle.order for bundle in chunk))
        copy(schema.order_lines, (line for bundle in chunk for line in bundle.lines))
        copy(schema.invoices, (bundle.invoice for bundle in chunk if bundle.invoice))
        copy(schema.payments, (payment for bundle in chunk for payment in bundle.payments))
    return copied


def genre_rows() -> Iterator[make.Row]:
    for number, name in enumerate(vocabulary.GENRES, start=1):
        yield {"genre_id": number, "name": name}


def skewed(rng: Random, count: int) -> int:
    """A number from 1 to `count`; small ones far more often, as with films and customers."""
    return 1 + int(count * rng.random() ** 2)


def _before(end: datetime, rng: Random, days: int) -> datetime:
    return end - timedelta(microseconds=rng.randrange(days * 86_400_000_000))


def _customers(
    rng: Random, sizes: Sizes, end: datetime, countries: list[str]
) -> Iterator[make.Row]:
    for customer_id in range(1, sizes.customers + 1):
        row = make.customer(rng, customer_id, _before(end, rng, 700))
        countries.append(str(row["country"]))
        yield row


def _movies(rng: Random, sizes: Sizes, end: datetime, prices: list[Decimal]) -> Iterator[make.Row]:
    for movie_id in range(1, sizes.movies + 1):
        row = make.movie(rng, movie_id, _before(end, rng, 900))
        prices.append(Decimal(str(row["price"])))
        yield row


def _movie_genres(rng: Random, sizes: Sizes) -> Iterator[make.Row]:
    for movie_id in range(1, sizes.movies + 1):
        for genre_id in make.genre_ids(rng):
            yield {"movie_id": movie_id, "genre_id": genre_id}


def _ratings(rng: Random, sizes: Sizes, end: datetime) -> Iterator[make.Row]:
    for customer_id, movie_id in _pairs(rng, sizes, sizes.ratings):
        yield make.rating(rng, customer_id, movie_id, _before(end, rng, 600))


def _tags(rng: Random, sizes: Sizes, end: datetime) -> Iterator[make.Row]:
    pairs = _pairs(rng, sizes, sizes.tags)
    for tag_id, (customer_id, movie_id) in enumerate(pairs, start=1):
        yield {
            "tag_id": tag_id,
            "customer_id": customer_id,
            "movie_id": movie_id,
            "tag": vocabulary.tag(rng),
            "relevance": rng.random(),
            "tagged_at": _before(end, rng, 600),
        }


def _pairs(rng: Random, sizes: Sizes, count: int) -> Iterator[tuple[int, int]]:
    """Distinct (customer, movie) pairs, about `count`, each customer with a share of them."""
    average = count / max(sizes.customers, 1)
    for customer_id in range(1, sizes.customers + 1):
        wanted = min(round(rng.expovariate(1 / average)) if average else 0, sizes.movies)
        yield from ((customer_id, m) for m in _movies_of(rng, sizes, customer_id, wanted))


def _movies_of(rng: Random, sizes: Sizes, customer_id: int, count: int) -> list[int]:
    """Up to this many movies that a customer chooses, ascending."""
    chosen = {
        TASTES.liked(rng, customer_id, lambda: skewed(rng, sizes.movies)) for _ in range(count)
    }
    return sorted(chosen)


def _orders(
    rng: Random, sizes: Sizes, end: datetime, prices: list[Decimal], countries: list[str]
) -> Iterator[make.OrderRows]:
    for order_id in range(1, sizes.orders + 1):
        customer_id = skewed(rng, sizes.customers)
        while rng.random() > habits_of(customer_id).eagerness:
            customer_id = skewed(rng, sizes.customers)
        movie_ids = _movies_of(rng, sizes, customer_id, rng.randint(1, 5))
        items = [make.Item(m, prices[m - 1], rng.choice((1, 1, 1, 2, 3))) for m in movie_ids]
        country = countries[customer_id - 1]
        days = _RECENT_DAYS if rng.random() < _RECENT_SHARE else ORDER_DAYS
        # A payment comes some minutes after its order, and not after the end either.
        placed_at = _before(end - make.PAID_AFTER, rng, days)
        yield make.order(
            rng,
            order_id,
            customer_id,
            country,
            items,
            placed_at,
            *state_of(rng, customer_id, order_id, items, end - placed_at),
        )


def state_of(
    rng: Random, customer_id: int, order_id: int, items: list[make.Item], age: timedelta
) -> tuple[str, timedelta]:
    """The status of an order of this age, and how long after it is paid, if it is.

    An order whose bill is not paid yet is pending, forever if its customer never pays it.
    """
    status = rng.choice(_STATES)
    days = habits_of(customer_id).paid_after_days(order_id, float(make.total(items)))
    after = make.PAID_AFTER + timedelta(days=days or 0)
    unpaid = days is None or after > age
    return ("pending" if unpaid and status != "cancelled" else status), after


def _continue_identity(connection: Connection, table: Table) -> None:
    """Let the identity column go on after the copied keys."""
    for column in table.columns:
        if column.identity is not None:
            top = connection.execute(select(func.coalesce(func.max(column), 0))).scalar_one()
            connection.execute(
                text("select setval(pg_get_serial_sequence(:table, :column), :next, false)"),
                {"table": table.name, "column": column.name, "next": top + 1},
            )

"""Adds customers, movies, ratings and two years of orders to a store, in the planted tastes and habits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from sqlalchemy import Column, Connection, Engine, func, select

from app.errors import HeadwaterError
from app.store.planted.habits import habits_of
from app.store.planted.hidden import Floats, Ids
from app.store.planted.tastes import SEED, TASTES, draw_stars, least_rmse
from app.store.tables import make, schema
from app.store.tables.create import create_within
from app.store.tables.seed import ORDER_DAYS, state_of
from app.store.tables.store_connection import copy_rows

RATINGS_MIN, RATINGS_MAX = 1_000, 50_000_000
RATINGS_A_CUSTOMER, RATINGS_A_MOVIE = 100, 400
CUSTOMERS_A_TRANSACTION = 500
NEWEST_DAYS = 30  # no customer is younger
_SPREAD = 0.8  # deviation of the logarithm of a customer's number of ratings
_CALM = 0.8  # stars by which a choice of movies falls short of the taste


class Growth:
    """One run of `grow`: its additions, and the planted patterns so far."""

    def __init__(self, engine: Engine, ratings: int, seed: int, ends_at: datetime | None) -> None:
        if not RATINGS_MIN <= ratings <= RATINGS_MAX:
            raise HeadwaterError(
                "the number of ratings is out of range",
                detail=f"observed {ratings:,}",
                hint=f"take one from {RATINGS_MIN:,} to {RATINGS_MAX:,}",
            )
        self._engine, self._ratings, self._seed = engine, ratings, seed
        self._end = ends_at or datetime.now(timezone.utc)
        self.copied: dict[str, int] = {}
        self._squares, self._drawn = 0.0, 0  # of the errors of the best prediction, and how many
        self._customers: list[int] = []
        self._bills: list[tuple[int, float]] = []

    def run(self, told: Callable[[dict[str, int]], None] = lambda _: None) -> dict[str, int]:
        """Add everything, some hundred customers a transaction.

        Args:
            told: called with the copied rows by table after each transaction.
        Returns: rows copied by table. Raises: SQLAlchemyError.
        """
        with self._engine.begin() as connection:
            create_within(connection)
            count = max(RATINGS_A_MOVIE, math.ceil(self._ratings / RATINGS_A_MOVIE))
            self._add_movies(connection, count)
            movies = connection.execute(
                select(schema.movies.c.movie_id, schema.movies.c.price).order_by(
                    schema.movies.c.movie_id
                )
            ).all()
        prices = {row.movie_id: row.price for row in movies}
        ids = np.array(sorted(prices), dtype=np.int64)
        left = self._ratings
        while left > 0:
            customers = min(CUSTOMERS_A_TRANSACTION, math.ceil(left / RATINGS_A_CUSTOMER))
            with self._engine.begin() as connection:
                left -= self._add_customers(connection, customers, ids, prices, left)
            told(self.copied)
        return self.copied

    def write_truth(self, path: Path) -> None:
        """Write the planted truth as JSON: the least error of any model, and each chance."""
        habits = [(one, habits_of(one)) for one in self._customers]
        document = {
            "seed": SEED,
            "ended_at": self._end.isoformat(),
            "stars": {"least_rmse": math.sqrt(self._squares / self._drawn)},
            # customer, orders a day, chance to leave after an order, carelessness
            "habits": [(one, h.orders_a_day, h.leaves, h.carelessness) for one, h in habits],
            # order, chance that its bill is not paid
            "bills": self._bills,
        }
        path.write_text(json.dumps(document))

    def _add_movies(self, connection: Connection, count: int) -> None:
        ids = _reserved(connection, schema.movies.c.movie_id, count)
        rng = Random(f"{self._seed}:grow:movies:{ids[0]}")
        rows = [make.movie(rng, one, _before(self._end, rng, ORDER_DAYS)) for one in ids]
        self._copy(connection, "movies", rows)
        genres = set(connection.execute(select(schema.genres.c.genre_id)).scalars())
        self._copy(
            connection,
            "movie_genres",
            [
                {"movie_id": one, "genre_id": genre}
                for one in ids
                for genre in make.genre_ids(rng)
                if genre in genres
            ],
        )

    def _add_customers(
        self,
        connection: Connection,
        count: int,
        movies: Ids,
        prices: dict[int, Decimal],
        wanted: int,
    ) -> int:
        """Add customers with their ratings and orders; returns how many ratings."""
        ids = _reserved(connection, schema.customers.c.customer_id, count)
        rng = Random(f"{self._seed}:grow:customers:{ids[0]}")
        generator = np.random.default_rng(rng.getrandbits(64))
        people = []
        for one in ids:
            days = NEWEST_DAYS + rng.random() * (ORDER_DAYS - NEWEST_DAYS)
            people.append(make.customer(rng, one, self._end - timedelta(days=days)))
        self._copy(connection, "customers", people)
        ratings = list(islice(self._ratings_of(generator, people, movies), wanted))
        self._copy(connection, "ratings", ratings)
        orders = [
            order for person in people for order in self._orders_of(connection, rng, person, prices)
        ]
        self._copy(connection, "orders", [each.order for each in orders])
        self._copy(connection, "order_lines", [line for each in orders for line in each.lines])
        self._copy(connection, "invoices", [each.invoice for each in orders if each.invoice])
        self._copy(connection, "payments", [paid for each in orders for paid in each.payments])
        self._customers += ids
        return len(ratings)

    def _ratings_of(
        self, generator: np.random.Generator, people: list[make.Row], movies: Ids
    ) -> Iterator[make.Row]:
        for person in people:
            customer_id, since = int(str(person["customer_id"])), person["created_at"]
            assert isinstance(since, datetime)
            chosen, wishes = choose_movies(generator, customer_id, movies)
            self._squares += len(chosen) * least_rmse(wishes) ** 2
            self._drawn += len(chosen)
            seconds = generator.random(len(chosen)) * (self._end - since).total_seconds()
            stars = draw_stars(generator, wishes)
            for movie_id, given, second in zip(chosen, stars, seconds, strict=True):
                yield {
                    "customer_id": customer_id,
                    "movie_id": int(movie_id),
                    "stars": Decimal(str(given)),
                    "review": None,
                    "rated_at": since + timedelta(seconds=float(second)),
                }

    def _orders_of(
        self,
        connection: Connection,
        rng: Random,
        person: make.Row,
        prices: dict[int, Decimal],
    ) -> Iterator[make.OrderRows]:
        customer_id, since = int(str(person["customer_id"])), person["created_at"]
        assert isinstance(since, datetime)
        habits, movies = habits_of(customer_id), sorted(prices)
        last = self._end - make.PAID_AFTER
        days = list(habits.order_days(rng, (last - since) / timedelta(days=1)))
        ids = _reserved(connection, schema.orders.c.order_id, len(days))
        for order_id, day in zip(ids, days, strict=True):
            picked = {
                TASTES.liked(rng, customer_id, lambda: movies[int(len(movies) * rng.random() ** 2)])
                for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 5)))
            }
            items = [make.Item(m, prices[m], rng.choice((1, 1, 1, 2, 3))) for m in sorted(picked)]
            placed_at = since + timedelta(days=day)
            status, after = state_of(rng, customer_id, order_id, items, self._end - placed_at)
            country = str(person["country"])
            yield make.order(rng, order_id, customer_id, country, items, placed_at, status, after)
            self._bills.append((order_id, habits.unpaid(float(make.total(items)))))

    def _copy(self, connection: Connection, name: str, rows: list[make.Row]) -> None:
        table = schema.metadata.tables[name]
        self.copied[name] = self.copied.get(name, 0) + copy_rows(connection, table, rows)


def choose_movies(
    generator: np.random.Generator, customer_id: int, movies: Ids
) -> tuple[Ids, Floats]:
    """Return the movies that a customer rates, and the wishes: known movies more often, and liked ones."""
    middle = RATINGS_A_CUSTOMER / math.exp(_SPREAD**2 / 2)
    count = round(middle * math.exp(_SPREAD * generator.normal()))
    count = min(max(count, 5), len(movies) // 2)
    places = (len(movies) * generator.random(4 * count) ** 2).astype(np.int64)
    known = movies[np.unique(places)]
    wishes = TASTES.wishes(np.full(len(known), customer_id), known)
    best = np.argsort(-(wishes + _CALM * generator.gumbel(size=len(known))))[:count]
    return known[best], wishes[best]


def _reserved(connection: Connection, column: Column[int], count: int) -> list[int]:
    """The next values of an identity column."""
    sequence = func.pg_get_serial_sequence(column.table.name, column.name)
    numbers = func.generate_series(1, count).table_valued("n")
    return list(connection.execute(select(func.nextval(sequence)).select_from(numbers)).scalars())


def _before(end: datetime, rng: Random, days: int) -> datetime:
    return end - timedelta(seconds=rng.random() * days * 86_400)

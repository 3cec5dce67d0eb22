"""Makes rows of the store: pure functions from random choices to one dict a row.

Each dict holds every column of its table, under the column's name, with the values that both
COPY and INSERT take. Nothing here reads a clock or a database.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from random import Random

from app.store.planted.tastes import TASTES
from app.store.tables import vocabulary

Row = dict[str, object]

PAID_AFTER = timedelta(minutes=3)
_CENT = Decimal("0.01")
_TAX_RATES = {"DE": Decimal("0.1900"), "FR": Decimal("0.2000"), "US": Decimal("0.0725")}
_OTHER_TAX_RATE = Decimal("0.2100")


@dataclass(frozen=True)
class Item:
    """What an order line is about: a movie, its price at that moment, and how many."""

    movie_id: int
    unit_price: Decimal
    quantity: int


@dataclass(frozen=True)
class OrderRows:
    """The rows that one order consists of, over four tables."""

    order: Row
    lines: list[Row]
    invoice: Row | None
    payments: list[Row]


def money(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, rounding=ROUND_HALF_UP)


def price(rng: Random) -> Decimal:
    return Decimal(rng.randint(99, 4_999)) / 100


def random_uuid(rng: Random) -> uuid.UUID:
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def customer(rng: Random, customer_id: int, at: datetime) -> Row:
    name = vocabulary.full_name(rng)
    return {
        "customer_id": customer_id,
        "public_id": random_uuid(rng),
        "email": vocabulary.email(rng, name),
        "full_name": name,
        "country": rng.choice(vocabulary.COUNTRIES),
        "birth_date": date(1940, 1, 1) + timedelta(days=rng.randrange(25_000))
        if rng.random() < 0.8
        else None,
        "newsletter": rng.random() < 0.4,
        "call_after": time(rng.randrange(7, 20), rng.randrange(60)) if rng.random() < 0.5 else None,
        "preferences": preferences(rng),
        "avatar": rng.randbytes(rng.randint(16, 120)) if rng.random() < 0.3 else None,
        "movielens_user_id": None,
        "created_at": at,
        "updated_at": at,
    }


def preferences(rng: Random) -> dict[str, object]:
    return {
        "theme": rng.choice(("dark", "light")),
        "genres": rng.sample(vocabulary.GENRES[:-1], rng.randint(0, 3)),
        "autoplay": rng.random() < 0.5,
        "max_price": None if rng.random() < 0.5 else rng.randint(5, 50),
    }


def movie(rng: Random, movie_id: int, at: datetime) -> Row:
    year = at.year - min(int(rng.expovariate(1 / 18)), 110)
    day = min(date(year, rng.randint(1, 12), rng.randint(1, 28)), at.date())
    released = day if rng.random() < 0.9 else None
    return {
        "movie_id": movie_id,
        "sku": f"MOV-{movie_id:08d}",
        "title": vocabulary.title(rng),
        "tagline": vocabulary.sentence(rng).strip() if rng.random() < 0.6 else None,
        "description": vocabulary.description(rng),
        "release_year": year,
        "released_on": released,
        "runtime_minutes": rng.randint(62, 210) if rng.random() < 0.95 else None,
        "languages": rng.sample(vocabulary.LANGUAGES, rng.randint(0, 3)),
        "price": price(rng),
        "popularity": rng.random() * 100,
        "available": rng.random() < 0.95,
        "attributes": {"format": rng.choice(("4K", "HD", "SD")), "subtitles": rng.random() < 0.7},
        "imdb_id": rng.randint(1, 9_999_999) if rng.random() < 0.9 else None,
        "tmdb_id": rng.randint(1, 999_999) if rng.random() < 0.8 else None,
        "movielens_id": None,
        "created_at": at,
        "updated_at": at,
    }


def genre_ids(rng: Random) -> list[int]:
    """One to three of the real genres, sorted."""
    return sorted(rng.sample(range(1, len(vocabulary.GENRES)), rng.randint(1, 3)))


def rating(rng: Random, customer_id: int, movie_id: int, at: datetime) -> Row:
    return {
        "customer_id": customer_id,
        "movie_id": movie_id,
        "stars": TASTES.stars(rng, customer_id, movie_id),
        "review": vocabulary.review(rng),
        "rated_at": at,
    }


def total(items: Sequence[Item]) -> Decimal:
    """The total of an order's lines."""
    return sum((item.unit_price * item.quantity for item in items), Decimal(0))


def order(
    rng: Random,
    order_id: int,
    customer_id: int,
    country: str,
    items: Sequence[Item],
    at: datetime,
    status: str = "pending",
    paid_after: timedelta = PAID_AFTER,
) -> OrderRows:
    """An order with its lines, its invoice (unless cancelled) and payment (unless pending)."""
    net = total(items)
    lines: list[Row] = [
        {
            "order_id": order_id,
            "line_no": number,
            "movie_id": item.movie_id,
            "quantity": item.quantity,
            "unit_price": item.unit_price,
        }
        for number, item in enumerate(items, start=1)
    ]
    billed = None if status == "cancelled" else invoice(order_id, country, net, at.date())
    paid = billed is not None and status != "pending"
    payments = [payment(rng, billed, at + paid_after)] if billed and paid else []
    row: Row = {
        "order_id": order_id,
        "customer_id": customer_id,
        "status": status,
        "total": net,
        "coupons": rng.sample(vocabulary.COUPONS, rng.choice((0, 0, 0, 1, 2))),
        "shipping": {"country": country, "street": f"{rng.randint(1, 250)} Main St.", "gift": None},
        "note": vocabulary.sentence(rng).strip() if rng.random() < 0.2 else None,
        "placed_at": at,
        "updated_at": at,
    }
    return OrderRows(row, lines, billed, payments)


def invoice(order_id: int, country: str, net: Decimal, day: date) -> Row:
    rate = _TAX_RATES.get(country, _OTHER_TAX_RATE)
    number = f"INV-{day.year}-{order_id:09d}"
    return {
        "invoice_number": number,
        "order_id": order_id,
        "issued_on": day,
        "due_on": day + timedelta(days=14),
        "net": net,
        "tax_rate": rate,
        "gross": gross(net, rate),
        "digest": digest(number, net),
    }


def gross(net: Decimal, tax_rate: Decimal) -> Decimal:
    return money(net * (1 + tax_rate))


def digest(invoice_number: str, net: Decimal) -> bytes:
    return hashlib.sha256(f"{invoice_number}|{net}".encode()).digest()


def payment(rng: Random, billed: Row, at: datetime) -> Row:
    """The payment of the whole of an invoice (a row with `invoice_number` and `gross`)."""
    method = rng.choice(("card", "card", "card", "transfer", "voucher", "wallet"))
    booked = at.astimezone(timezone.utc).replace(tzinfo=None) + timedelta(hours=1)
    return {
        "payment_id": random_uuid(rng),
        "invoice_number": billed["invoice_number"],
        "amount": billed["gross"],
        "method": method,
        "paid_at": at,
        "booked_at": booked if method == "transfer" else None,
        "detail": {"attempts": rng.randint(1, 3), "fee": float(rng.randint(0, 99)) / 100},
    }

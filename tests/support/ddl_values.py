"""Types for random tables: generators of values, wider types, and values that silver refuses."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

MOODS = ["sad", "calm", 'très "wild"']


def _text(rng: random.Random, length: int) -> str:
    return "".join(rng.choice("abc äß€🎬'\"\\{},\n") for _ in range(rng.randint(0, length)))


def _large(rng: random.Random) -> str:
    # Hex cannot be compressed below Postgres's 2 kB, so such a value is stored outside of its row.
    return rng.randbytes(rng.choice([10, 3_000, 6_000])).hex()


def _decimal(rng: random.Random, digits: int) -> Decimal:
    return Decimal(rng.randint(-(10**digits), 10**digits)) / 100


def _day(rng: random.Random) -> str:
    return f"{rng.choice([1, 1582, 1970, 2026, 9999]):04}-{rng.randint(1, 9):02}-{rng.randint(1, 28):02}"


def _list(rng: random.Random, item: Callable[[], Any]) -> list[Any]:
    return [rng.choice([None, item()]) for _ in range(rng.randint(0, 3))]


MAKE: dict[str, Callable[[random.Random], Any]] = {
    "smallint": lambda rng: rng.choice([-(2**15), 2**15 - 1, rng.randint(-99, 99)]),
    "int": lambda rng: rng.choice([-(2**31), 2**31 - 1, rng.randint(-99, 99)]),
    "bigint": lambda rng: rng.choice([-(2**63), 2**63 - 1, rng.randint(-99, 99)]),
    "numeric(10,2)": lambda rng: _decimal(rng, 9),
    "numeric(14,2)": lambda rng: _decimal(rng, 13),
    "numeric": lambda rng: rng.choice(["NaN", "Infinity", "-0.00", str(_decimal(rng, 30))]),
    "real": lambda rng: rng.choice([0.1, -0.0, 1e30, rng.randint(-9, 9) / 4]),
    "double precision": lambda rng: rng.choice([0.1, 1e300, rng.random()]),
    "text": lambda rng: _text(rng, 30),
    "varchar(20)": lambda rng: _text(rng, 20),
    "varchar(200)": lambda rng: _text(rng, 200),
    "char(4)": lambda rng: rng.choice(["", "ab", "abcd"]),
    "boolean": lambda rng: rng.random() < 0.5,
    "date": _day,
    "timestamp": lambda rng: f"{_day(rng)} 12:34:56.{rng.randint(0, 999999):06}",
    "timestamptz": lambda rng: f"{_day(rng)} 12:34:56.{rng.randint(0, 999999):06}+00",
    "time": lambda rng: rng.choice(["24:00:00", "00:00:00.000001"]),
    "interval": lambda rng: f"{rng.randint(-20, 20)} mons {rng.randint(-40, 40)} days 1.5 s",
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128))),
    "jsonb": lambda rng: rng.choice(["null", '{"a": [1, null]}', '"x"']),
    "json": lambda rng: rng.choice(["null", '{"a":1, "a":2}', " 1 "]),
    "bytea": lambda rng: rng.randbytes(rng.choice([0, 3, 4_000])),
    "inet": lambda rng: rng.choice(["10.1.2.3", "10.0.0.0/8", "::1"]),
    "int4range": lambda rng: rng.choice(["empty", "[1,5)", "(,)"]),
    "text[]": lambda rng: _list(rng, lambda: _text(rng, 5)),
    "int[]": lambda rng: _list(rng, lambda: rng.randint(-9, 9)),
    "mood": lambda rng: rng.choice(MOODS),
    "large text": _large,
}
# Changes that silver follows by rewriting or not at all; the values stay the same.
WIDER = {
    "smallint": "int",
    "int": "bigint",
    "numeric(10,2)": "numeric(14,2)",
    "varchar(20)": "varchar(200)",
    "varchar(200)": "text",
}
REFUSED = {
    "numeric(10,2)": "NaN",
    "numeric(14,2)": "NaN",
    "date": "infinity",
    "timestamp": "-infinity",
    "timestamptz": "infinity",
    "int[]": "[2:3]={7,8}",
    "text[]": "{{a},{b}}",
}
KEY_TYPES = ("int", "bigint", "text", "uuid", "smallint")
SMALL_DEFAULTS = {
    "int": "7", "bigint": "-1", "text": "'it''s, \"x\"'", "numeric(10,2)": "1.50",
    "boolean": "true", "date": "'2026-01-31'", "timestamptz": "'2026-01-31 10:00:00.5+00'",
    "uuid": "'00000000-0000-0000-0000-000000000001'", "jsonb": "'{\"d\": 1}'", "bytea": "'\\x00ff'",
    "text[]": "'{a,NULL}'", "mood": "'calm'", "interval": "'1 day -2 hours'", "inet": "'10.1.2.3'",
}  # fmt: skip


def ddl(kind: str) -> str:
    """The type in SQL."""
    return {"large text": "text", "mood": "rnd_mood"}.get(kind, kind)

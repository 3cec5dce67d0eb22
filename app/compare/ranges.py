"""Cuts a table into ranges of its key's first column, alike in the source and in silver.

A range must hold the same rows on both sides, so both have to order the key alike. They do so for
integers and uuids. For text they do so if the source compares bytes (`COLLATE "C"`), as Arrow does;
that needs no index, only a scan for each range. Tables with other keys, or without a key, are
compared as one part, which needs no order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.types import Column

SAMPLE_KEYS = 20_000
# In tables up to this many rows, sampled keys are chosen row by row; in larger ones by blocks.
EACH_ROW_MAX = 2_000_000
RANGES_MAX = 4_096
# A range of text or uuids reads all of silver's files, and the whole source table if its index has
# another order; a range of integers reads only the files that hold it.
SCANNED_RANGES_MAX = 8
SAMPLE_SPOTS = 20

_INTEGERS = ("int2", "int4", "int8")
_TEXTS = ("text", "varchar")


@dataclass(frozen=True)
class KeyRange:
    """The rows with `low` <= first key column < `high`, as texts; None is an open end."""

    low: str | None = None
    high: str | None = None

    @property
    def whole(self) -> bool:
        return self.low is None and self.high is None


WHOLE = (KeyRange(),)


class KeyOrder:
    """The order of a contract's first key column on both sides; made by `order_of`."""

    def __init__(self, contract: Contract, column: Column) -> None:
        self.contract = contract
        self.column = column
        self._integer = column.base_type in _INTEGERS

    @property
    def ranges_max(self) -> int:
        """Return the greatest number of ranges that is worth its reads."""
        return RANGES_MAX if self._integer else SCANNED_RANGES_MAX

    def sort_key(self, text: str) -> Any:
        """Return a value that sorts as both sides sort the key."""
        return int(text) if self._integer else text.encode("utf-8")

    def holds(self, ranges: Sequence[KeyRange], text: str) -> bool:
        """Check whether a key is in one of the ranges."""
        at = self.sort_key(text)
        return any(
            (r.low is None or self.sort_key(r.low) <= at)
            and (r.high is None or at < self.sort_key(r.high))
            for r in ranges
        )

    def source_condition(
        self, ranges: Sequence[KeyRange], connection: psycopg.Connection[Any]
    ) -> str:
        """Return the ranges as a SQL condition on the source's rows; `true` for all rows."""
        name = quoted(self.column.source_name)
        if self.column.kind == "text":
            name = f'{name} COLLATE "C"'
        terms = [
            " and ".join(
                f"{name} {operator} {self._literal(bound, connection)}"
                for operator, bound in ((">=", r.low), ("<", r.high))
                if bound is not None
            )
            for r in ranges
        ]
        return " or ".join(f"({term})" if term else "true" for term in terms)

    def silver_filter(self, ranges: Sequence[KeyRange]) -> Any:
        """Return the ranges as a filter of silver's dataset; None for all rows."""
        if any(r.whole for r in ranges):
            return None
        field = pc.field(self.column.name)
        if not self._integer:
            field = field.cast(pa.string())  # see `spark_streaming.fold.row_lookup.one_of`
        condition = None
        for r in ranges:
            term = None
            for bound, low in ((r.low, True), (r.high, False)):
                if bound is not None:
                    value = pa.scalar(int(bound) if self._integer else bound)
                    one = field >= value if low else field < value
                    term = one if term is None else term & one
            condition = term if condition is None else condition | term
        return condition

    def _literal(self, bound: str, connection: psycopg.Connection[Any]) -> str:
        if self._integer:
            return str(int(bound))
        return sql.Literal(bound).as_string(connection)


def order_of(contract: Contract, connection: psycopg.Connection[Any]) -> KeyOrder | None:
    """Return the key order of a table; None if both sides do not order its key alike."""
    column = contract.by_name[contract.key[0]] if contract.key else None
    if column is None or column.is_array:
        return None
    if column.base_type in _INTEGERS or column.kind == "uuid":
        return KeyOrder(contract, column)
    if column.kind == "text" and column.base_type in _TEXTS:
        row = connection.execute("SELECT current_setting('server_encoding')").fetchone()
        # In other encodings the order of bytes differs from that in UTF-8.
        if row is not None and row[0] == "UTF8":
            return KeyOrder(contract, column)
    return None


def cut(keys: Sequence[str], order: KeyOrder, parts: int) -> tuple[KeyRange, ...]:
    """Cut the key space into at most `parts` ranges with about equally many of `keys` each.

    The ranges meet without a gap; the first and the last are open.
    """
    ranked = sorted(keys, key=order.sort_key)
    count = max(1, min(parts, len(ranked)))
    chosen = {ranked[len(ranked) * i // count] for i in range(1, count)} - set(ranked[:1])
    bounds = sorted(chosen, key=order.sort_key)
    lows: list[str | None] = [None, *bounds]
    highs: list[str | None] = [*bounds, None]
    return tuple(KeyRange(low, high) for low, high in zip(lows, highs, strict=True))


def pick(
    keys: Sequence[str], order: KeyOrder, share: float, chance: random.Random
) -> tuple[KeyRange, ...]:
    """Pick random ranges that hold about `share` (0 to 1) of the rows that `keys` represent."""
    if share >= 1 or not keys:
        return WHOLE
    spots = max(1, min(SAMPLE_SPOTS, int(len(keys) * share)))
    ranges = cut(keys, order, round(spots / share))
    # A key with few values has fewer and wider ranges than were asked for.
    count = max(1, min(spots, round(share * len(ranges))))
    places = chance.sample(range(len(ranges)), count)
    return tuple(ranges[place] for place in sorted(places))


def sample_keys(connection: psycopg.Connection[Any], order: KeyOrder, rows: int) -> list[str]:
    """Read about SAMPLE_KEYS random keys of a table with about `rows` rows."""
    table = f"{quoted(order.contract.schema)}.{quoted(order.contract.table)}"
    method = "BERNOULLI" if rows <= EACH_ROW_MAX else "SYSTEM"
    share = min(100.0, 100.0 * SAMPLE_KEYS / max(rows, 1))
    statement = (
        f"SELECT {quoted(order.column.source_name)}::text FROM {table} "
        f"TABLESAMPLE {method} ({share:.6f}) LIMIT {SAMPLE_KEYS * 5}"
    )
    return [str(row[0]) for row in connection.execute(statement.encode())]


def size_of(connection: psycopg.Connection[Any], schema: str, table: str) -> tuple[int, int]:
    """Return about how many rows a source table has, and its bytes; 0 if not known."""
    row = connection.execute(
        "SELECT sum(greatest(c.reltuples, 0))::bigint, sum(pg_table_size(c.oid))::bigint "
        "FROM pg_partition_tree(to_regclass(%s)) p JOIN pg_class c ON c.oid = p.relid "
        "WHERE p.isleaf",
        [f"{quoted(schema)}.{quoted(table)}"],
    ).fetchone()
    return (int(row[0] or 0), int(row[1] or 0)) if row is not None else (0, 0)

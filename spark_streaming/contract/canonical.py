"""Makes one comparable text per value, from source rows and from silver rows, for `verify`.

It shares no code with the decoder. The texts are Postgres's own output under SESSION_SETTINGS, with
these differences: `bytea` is plain hex, `money` is a number, and a float is the hex of its eight
bytes (Postgres does not always print the shortest digits, so other programs print another text).
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.postgres_text import array_literal
from spark_streaming.contract.types import Column

SESSION_SETTINGS = (
    "set TimeZone = 'UTC'",
    "set DateStyle = 'ISO, YMD'",
    "set IntervalStyle = 'postgres'",
    "set bytea_output = 'hex'",
    "set extra_float_digits = 1",
)

# What may still differ from the source. Base type -> a message for users.
LOSSY = {
    "date": "1582-10-05 to 1582-10-24 read by a snapshot are refused: ten are two days in one",
    "money": "carried as a number without its currency",
}
# For these types a cast to text differs from the type's output, which events have: the cast strips
# the blanks of char(n), adds a mask to an inet without one, and keeps the encoding of an xml.
_PRINTED = frozenset({"bpchar", "inet", "xml"})
# Types that were never tested with a real connector (mostly of extensions).
UNVERIFIED = frozenset({"geometry", "geography", "vector", "halfvec", "sparsevec", "isbn"})


def source_select(contract: Contract, condition: str = "true") -> str:
    """Return the SQL that selects a table's rows as canonical texts, in the contract's column order.

    Run it under SESSION_SETTINGS. NULL stays NULL; rows come in no order. Rows of tables that inherit
    from this one are left out; rows of its partitions are included.

    Args:
        condition: an SQL condition that selects rows.
    """
    columns = ", ".join(_source_text(column) for column in contract.columns)
    table = f"{quoted(contract.schema)}.{quoted(contract.table)}"
    oid = "'" + table.replace("'", "''") + "'::regclass"
    return (
        f"select {columns} from {table} where ({condition}) and (tableoid = {oid}"
        f" or (select relkind = 'p' from pg_class where oid = {oid}))"
    )


def canonical_row(contract: Contract, values: Sequence[Any]) -> tuple[str | None, ...]:
    """Return the canonical texts of a silver row.

    Args:
        values: the row's Python values from Arrow, in the contract's column order.
    Raises: ValueError if the number of values is not the number of columns.
    """
    return tuple(
        None if value is None else text(value)
        for text, value in zip(silver_texts(contract), values, strict=True)
    )


_TEXTS: dict[Contract, tuple[Callable[[Any], str], ...]] = {}


def silver_texts(contract: Contract) -> tuple[Callable[[Any], str], ...]:
    """Return, for each column, the function from a silver value to its canonical text."""
    if contract not in _TEXTS:
        _TEXTS[contract] = tuple(silver_text(column) for column in contract.columns)
    return _TEXTS[contract]


def _source_text(column: Column) -> str:
    name = quoted(column.source_name)
    if column.kind == "bytes":
        return f"encode({name}, 'hex')"
    if column.kind in ("float32", "float64"):
        return _float_bytes(name)
    if column.kind == "array" and column.element in ("float32", "float64"):
        items = f"select {_float_bytes('item')} from unnest({name}) with ordinality as u(item, n)"
        return f"case when {name} is not null then array({items} order by n)::text end"
    if column.base_type == "money" and not column.pg_type.endswith("[]"):
        return f"{name}::numeric::text"
    if (
        column.base_type in _PRINTED
        and column.kind != "array"
        and not column.pg_type.endswith("[]")
    ):
        return f"case when {name} is not null then concat({name}) end"
    return f"{name}::text"


def _float_bytes(name: str) -> str:
    # NaN has many byte patterns, which all count as equal.
    return f"case when {name} = 'NaN' then 'NaN' else encode(float8send({name}), 'hex') end"


def silver_text(column: Column) -> Callable[[Any], str]:
    """Return the function from a column's silver value to its canonical text."""
    if column.kind != "array":
        return _TEXT_OF_KIND[column.kind]
    item_text = _item_text(column.element or "text")
    return lambda items: array_literal(
        [None if item is None else item_text(item) for item in items]
    )


def _item_text(kind: str) -> Callable[[Any], str]:
    if kind == "bool":
        return lambda value: "t" if value else "f"
    if kind == "bytes":
        return lambda value: "\\x" + bytes(value).hex()
    return _TEXT_OF_KIND[kind]


def _same(value: Any) -> str:
    return str(value)


def _decimal(value: Decimal) -> str:
    return format(value, "f")


def _float(value: float) -> str:
    return "NaN" if value != value else struct.pack(">d", value).hex()


def _timestamp(value: datetime.datetime) -> str:
    text = value.replace(tzinfo=None).isoformat(sep=" ")
    return text.rstrip("0") if value.microsecond else text


def _timestamptz(value: datetime.datetime) -> str:
    return _timestamp(value.astimezone(datetime.timezone.utc)) + "+00"


_TEXT_OF_KIND: dict[str, Callable[[Any], str]] = {
    "int16": _same,
    "int32": _same,
    "int64": _same,
    "decimal": _decimal,
    "float32": _float,
    "float64": _float,
    "bool": lambda value: "true" if value else "false",
    "text": _same,
    "uuid": _same,
    "bytes": lambda value: bytes(value).hex(),
    "date": lambda value: value.isoformat(),
    "time": _same,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "json": _same,
    "enum": _same,
    "text_as_is": _same,
}

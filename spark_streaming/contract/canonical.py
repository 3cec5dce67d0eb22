"""Makes one comparable text per value, from source rows and from silver rows, for `verify`.

The texts are made independently of how events are decoded (see `value_forms`). They are Postgres's
own output under SESSION_SETTINGS, with these differences: `bytea` is plain hex, `money` is a
number, and a float is the hex of its eight bytes (Postgres does not always print the shortest
digits, so other programs print another text).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.kinds import SOURCE_OF_TYPE
from spark_streaming.contract.postgres_text import TEXT_SETTINGS
from spark_streaming.contract.types import Column

SESSION_SETTINGS = tuple(f"set {name} = '{value}'" for name, value in TEXT_SETTINGS.items())


def source_select(contract: Contract, condition: str = "true") -> str:
    """Return the SQL that selects a table's rows as canonical texts, in the contract's column order.

    Run it under SESSION_SETTINGS. NULL stays NULL; the order of rows is undefined. Rows of tables
    that inherit from this one are left out; rows of its partitions are included.

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


def _source_text(column: Column) -> str:
    source = column.value_kind.source
    if not column.is_array:
        source = SOURCE_OF_TYPE.get(column.base_type, source)
    return source.format(quoted(column.source_name))


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


@lru_cache(maxsize=256)
def silver_texts(contract: Contract) -> tuple[Callable[[Any], str], ...]:
    """Return, for each column, the function from a silver value to its canonical text."""
    return tuple(column.value_kind.text for column in contract.columns)


def column_texts(values: pa.Array, column: Column) -> list[str | None]:
    """Return the canonical texts of a whole column of silver."""
    kind = column.value_kind
    if kind.texts is not None:
        return kind.texts(values)
    return [None if value is None else kind.text(value) for value in values.to_pylist()]


def shown(column: Column, text: str | None) -> str | None:
    """Return a canonical text for people: a float is shown as a number, not by its bytes."""
    if text is None or text == "NaN" or not column.value_kind.is_float:
        return text
    return str(struct.unpack(">d", bytes.fromhex(text))[0])

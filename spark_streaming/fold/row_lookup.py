"""Reads single rows of a silver table by key, for changes that do not carry every value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.contract import Contract

Key = tuple[Any, ...]


class Readable(Protocol):
    """A silver table as far as look-ups need it: a `SilverTable`, or one at a fixed version."""

    @property
    def contract(self) -> Contract: ...

    def handle(self) -> Any:
        """The open Delta table."""
        ...


def keys_in(rows: pa.Table, names: Iterable[str]) -> list[Key]:
    """Return the keys of Arrow rows in their order: hashable tuples of Python values."""
    return list(zip(*([hashable(v) for v in rows[n].to_pylist()] for n in names), strict=True))


def hashable(value: Any) -> Any:
    """Return a key's value as `keys_in` does: a list becomes a tuple."""
    return tuple(hashable(item) for item in value) if isinstance(value, list) else value


def values_of(table: Readable, keys: list[Key]) -> dict[Key, dict[str, Any]]:
    """Return the source columns of the rows with these keys: key → column → Python value."""
    names = [column.name for column in table.contract.columns]
    found = _rows(table, keys, names)
    wanted = set(keys)
    rows = zip(keys_in(found, table.contract.key), found.to_pylist(), strict=True)
    return {key: row for key, row in rows if key in wanted}


def present_keys(table: Readable, keys: list[Key]) -> set[Key]:
    """Return those of the keys that have a row."""
    names = list(table.contract.key)
    found = _rows(table, keys, names)
    return set(keys_in(found, names)) & set(keys)


def lsns_of(table: Readable, keys: list[Key]) -> dict[Key, int]:
    """Return the `_lsn` of the rows with these keys: key → LSN."""
    if not keys:
        return {}
    names = [*table.contract.key, "_lsn"]
    found, wanted = _rows(table, keys, names), set(keys)
    rows = zip(keys_in(found, table.contract.key), found["_lsn"].to_pylist(), strict=True)
    return {key: int(lsn) for key, lsn in rows if key in wanted}


def _rows(table: Readable, keys: list[Key], columns: list[str]) -> pa.Table:
    schema = table.contract.silver_schema()
    condition = None
    # Each key column is filtered by itself: rows that mix two keys match, too; the caller drops them.
    for position, name in enumerate(table.contract.key):
        if pa.types.is_nested(schema.field(name).type):
            continue  # Arrow cannot look a list up in others
        values = pa.array({key[position] for key in keys}, schema.field(name).type)
        term = one_of(name, values)
        condition = term if condition is None else condition & term
    return table.handle().to_pyarrow_dataset().to_table(columns=columns, filter=condition)


def one_of(name: str, values: pa.Array) -> pc.Expression:
    """Return a filter of a silver table's dataset: column `name` holds one of `values`.

    The merges of delta-rs write text and bytes as Arrow's view types. pyarrow reads the file's
    statistics in those types and cannot compare them with the column's own type:
    `Function 'equal' has no kernel matching input types (string, string_view)`. The cast keeps the
    statistics of such columns out of the comparison.
    """
    column = pc.field(name)
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        column = column.cast(values.type)
    return column.isin(values)

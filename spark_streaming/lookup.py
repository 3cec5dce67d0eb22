"""Reading single rows of a silver table by key, for changes that do not carry every value."""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract import Contract

Key = tuple[Any, ...]


class Readable(Protocol):
    """A silver table as far as look-ups need it: a `SilverTable`, or one at a fixed version."""

    @property
    def contract(self) -> Contract: ...

    def handle(self) -> Any:
        """The open Delta table."""
        ...


def values_of(table: Readable, keys: list[Key]) -> dict[Key, dict[str, Any]]:
    """The source columns of the rows with these keys: key → column → Python value."""
    names = [column.name for column in table.contract.columns]
    found = _rows(table, keys, names)
    wanted = set(keys)
    rows = {tuple(row[k] for k in table.contract.key): row for row in found.to_pylist()}
    return {key: row for key, row in rows.items() if key in wanted}


def present_keys(table: Readable, keys: list[Key]) -> set[Key]:
    """Those of the keys that have a row."""
    names = list(table.contract.key)
    found = _rows(table, keys, names)
    rows = set(zip(*(found[name].to_pylist() for name in names), strict=True))
    return rows & set(keys)


def lsns_of(table: Readable, keys: list[Key]) -> dict[Key, int]:
    """The `_lsn` of those rows that silver has: key → LSN."""
    if not keys:
        return {}
    names = [*table.contract.key, "_lsn"]
    found = _rows(table, keys, names).to_pylist()
    rows = {tuple(row[k] for k in table.contract.key): int(row["_lsn"]) for row in found}
    return {key: lsn for key, lsn in rows.items() if key in set(keys)}


def _rows(table: Readable, keys: list[Key], columns: list[str]) -> pa.Table:
    schema = table.contract.silver_schema()
    condition = None
    # Each key column by itself: rows that mix two keys come too and are left by the caller.
    for position, name in enumerate(table.contract.key):
        values = pa.array({key[position] for key in keys}, schema.field(name).type)
        term = one_of(name, values)
        condition = term if condition is None else condition & term
    return table.handle().to_pyarrow_dataset().to_table(columns=columns, filter=condition)


def one_of(name: str, values: pa.Array) -> pc.Expression:
    """A filter of a silver table's dataset: column `name` holds one of `values`.

    The merges of delta-rs write text and bytes as Arrow's view types, pyarrow takes the file's
    statistics in those types, and then has no function to compare them with the column's own:
    `Function 'equal' has no kernel matching input types (string, string_view)`. A cast keeps the
    statistics of such columns out of the comparison.
    """
    column = pc.field(name)
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        column = column.cast(values.type)
    return column.isin(values)

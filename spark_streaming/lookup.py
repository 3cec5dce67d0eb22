"""Reading single rows of a silver table by key, for changes that do not carry every value."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.table import SilverTable

Key = tuple[Any, ...]


def values_of(table: SilverTable, keys: list[Key]) -> dict[Key, dict[str, Any]]:
    """The source columns of the rows with these keys: key → column → Python value."""
    names = [column.name for column in table.contract.columns]
    found = _rows(table, keys, names)
    wanted = set(keys)
    rows = {tuple(row[k] for k in table.contract.key): row for row in found.to_pylist()}
    return {key: row for key, row in rows.items() if key in wanted}


def present_keys(table: SilverTable, keys: list[Key]) -> set[Key]:
    """Those of the keys that have a row."""
    names = list(table.contract.key)
    found = _rows(table, keys, names)
    rows = set(zip(*(found[name].to_pylist() for name in names), strict=True))
    return rows & set(keys)


def _rows(table: SilverTable, keys: list[Key], columns: list[str]) -> pa.Table:
    schema = table.contract.silver_schema()
    condition = None
    # Each key column by itself: rows that mix two keys come too and are left by the caller.
    for position, name in enumerate(table.contract.key):
        values = pa.array({key[position] for key in keys}, schema.field(name).type)
        term = pc.field(name).isin(values)
        condition = term if condition is None else condition & term
    return table.handle().to_pyarrow_dataset().to_table(columns=columns, filter=condition)

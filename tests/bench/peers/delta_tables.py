"""Reads and makes the Delta tables of the peers on the local disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("v", pa.int32()),
        ("note", pa.string()),
        ("body", pa.string()),
        ("price", pa.decimal128(12, 2)),
        ("updated_at", pa.timestamp("us", "UTC")),
    ]
)


def value_of(table: DeltaTable, key: int) -> int | None:
    """`v` of the row with a key in the newest version that `table` was opened at; None without one."""
    query = QueryBuilder().register("t", table)
    found = pa.table(query.execute(f"SELECT v FROM t WHERE id = {key}").read_all())
    values = found.column("v").to_pylist()
    if len(values) > 1:
        raise AssertionError(f"{len(values)} rows have the key {key}")
    return int(values[0]) if values else None


def local_table(folder: Path, name: str) -> DeltaTable | None:
    """The newest version of a table; None while there is none."""
    try:
        return DeltaTable(str(folder / name))
    except TableNotFoundError:
        return None


def make_tables(folder: Path, names: list[str], configuration: dict[str, Any]) -> None:
    """Make empty tables."""
    for name in names:
        DeltaTable.create(str(folder / name), SCHEMA, configuration=configuration)

"""The Delta table `ops/lineage`, one row for each edge: the registrar writes it, `headwater lineage` reads it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from deltalake.exceptions import TableNotFoundError

from app.lineage.edge import Edge, Place
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.small_table import SmallTable

PATH = "ops/lineage"
SCHEMA = pa.schema(
    [
        ("from_namespace", pa.string()),
        ("from_name", pa.string()),
        ("from_column", pa.string()),
        ("to_namespace", pa.string()),
        ("to_name", pa.string()),
        ("to_column", pa.string()),
        ("kind", pa.string()),
        ("made_by", pa.string()),
        ("detail", pa.string()),
    ]
)


class LineageTable:
    """The table in one lake. Only one process may write it, because each write replaces all rows."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._table = SmallTable(lake, PATH, SCHEMA)

    def replace(self, edges: Iterable[Edge]) -> None:
        """Replace all rows by these edges. Raises: DeltaError, OSError."""
        self._table.replace(as_rows(edges))

    def read(self) -> list[Edge]:
        """Read every edge; none if the table does not exist yet. Raises: DeltaError, OSError."""
        try:
            rows = self._lake.table(PATH).to_pyarrow_table()
        except TableNotFoundError:
            return []
        columns = [rows[name].to_pylist() for name in SCHEMA.names]
        return [
            Edge(
                Place(row[0], row[1], row[2] or ""),
                Place(row[3], row[4], row[5] or ""),
                row[6],
                row[7] or "",
                row[8] or "",
            )
            for row in zip(*columns, strict=True)
        ]


def as_rows(edges: Iterable[Edge]) -> pa.Table:
    """Return the edges as rows of the table; empty values are NULL."""
    rows = [
        (*origin[:2], origin.column or None, *target[:2], target.column or None, kind, by or None, detail or None)
        for origin, target, kind, by, detail in edges
    ]  # fmt: skip
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)],
        schema=SCHEMA,
    )

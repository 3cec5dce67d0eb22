"""The Delta table `ops/lineage`, one row for each edge: the registrar writes it, `headwater lineage` reads it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from app.lineage.edge import Edge, Place
from spark_streaming.storage.lake import Lake

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
VACUUM_COMMITS = 20


class LineageTable:
    """The table in one lake. Only one process may write it, because each write replaces all rows."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def replace(self, edges: Iterable[Edge]) -> None:
        """Replace all rows by these edges. Raises: DeltaError, OSError."""
        table = self._open()
        write_deltalake(table, as_rows(edges), mode="overwrite")
        if table.version() % VACUUM_COMMITS == 0:
            # A running query may still read files of the last hour.
            table.vacuum(retention_hours=1, enforce_retention_duration=False, dry_run=False)
            table.create_checkpoint()
            table.cleanup_metadata()

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

    def _open(self) -> DeltaTable:
        try:
            return self._lake.for_writing().table(PATH)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(PATH),
                schema=SCHEMA,
                mode="ignore",
                configuration={"delta.logRetentionDuration": "interval 1 days"},
                storage_options=self._lake.storage_options(),
            )


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

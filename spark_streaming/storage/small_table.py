"""A small Delta table that the stack keeps about itself: replaced as a whole, or appended to and compacted."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import TableNotFoundError

COMPACT_COMMITS = 100  # each append is a commit with a file
VACUUM_COMMITS = 20  # each replacement leaves the files of the last one
READ_HOURS = 3  # longer than Trino's longest query (`query.max-execution-time`)


class SmallTable:
    """The table at a path of the lake; it is made when it is first opened.

    Args:
        lake: the lake's addresses and storage options (`spark_streaming.storage.lake.Lake`).
        path: its folder below the lake's, as `ops/verification`.
        schema: its columns. One that a table of an earlier release lacks is added, with NULLs.
    """

    def __init__(self, lake: Any, path: str, schema: pa.Schema) -> None:
        self._lake = lake
        self._path = path
        self._schema = schema

    def open(self) -> DeltaTable:
        """Open the table. Raises: DeltaError, OSError."""
        try:
            table: DeltaTable = self._lake.for_writing().table(self._path)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(self._path),
                schema=self._schema,
                mode="ignore",
                configuration={"delta.logRetentionDuration": "interval 1 days"},
                storage_options=self._lake.storage_options(),
            )
        present = {field.name for field in table.schema().fields}
        missing = [field for field in self._schema if field.name not in present]
        if missing:
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(missing)).fields))
        return table

    def column(self, name: str) -> list[Any]:
        """Read one column; empty if the table does not exist yet. Raises: DeltaError, OSError."""
        try:
            table = self._lake.table(self._path)
        except TableNotFoundError:
            return []
        found: list[Any] = table.to_pyarrow_dataset().to_table(columns=[name])[name].to_pylist()
        return found

    def append(self, rows: pa.Table, *, time_column: str, retention: timedelta) -> None:
        """Append rows; any number of writers may. Every COMPACT_COMMITS commits rows beyond the retention go."""
        table = self.open()
        write_deltalake(table, rows, mode="append")
        if (table.version() + 1) % COMPACT_COMMITS == 0:
            self.compact(time_column, datetime.now(timezone.utc) - retention)

    def compact(self, time_column: str, since: datetime) -> None:
        """Rewrite the rows since `since` as one file; remove older files and log entries."""
        table = self.open()
        names = self._schema.names
        rows = table.to_pyarrow_dataset().to_table(columns=names).cast(self._schema)
        begin = pa.scalar(since, self._schema.field(time_column).type)
        kept = rows.filter(pc.greater_equal(rows[time_column], begin))
        write_deltalake(table, kept, mode="overwrite")
        table.update_incremental()
        clean(table)

    def replace(self, rows: pa.Table) -> None:
        """Write these rows in place of all. Only one process may. Raises: DeltaError, OSError."""
        table = self.open()
        write_deltalake(table, rows, mode="overwrite")
        if table.version() % VACUUM_COMMITS == 0:
            clean(table)


def clean(table: DeltaTable) -> None:
    """Remove files and log entries that no query needs any more: one may still read those of READ_HOURS."""
    table.vacuum(retention_hours=READ_HOURS, enforce_retention_duration=False, dry_run=False)
    table.create_checkpoint()
    table.cleanup_metadata()

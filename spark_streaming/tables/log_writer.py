"""Commits to a Delta table without reading its log: the next entry is put on the condition that it does not exist."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from spark_streaming.storage.change_feed import PROPERTY as FEED
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.data_files import DataFile
from spark_streaming.tables.delta_commit import log_entry, statistics
from spark_streaming.tables.encodings import COMPRESSION, arrow_options
from spark_streaming.tables.engine_protocol import Commit

# Properties that ask nothing of a writer which only adds and removes whole files.
_HARMLESS = (
    "delta.targetFileSize",
    "delta.logRetentionDuration",
    "delta.deletedFileRetentionDuration",
    "delta.enableExpiredLogCleanup",
)
_FEATURES = {"timestampNtz", "appendOnly", "invariants", "changeDataFeed"}


def is_plain(table: DeltaTable) -> bool:
    """Whether adding and removing whole files is all that a table's protocol and properties ask for."""
    settings = {
        name: value
        for name, value in table.metadata().configuration.items()
        if name.startswith("delta.") and name not in _HARMLESS
    }
    return may_join(table) and all(n == FEED and v == "false" for n, v in settings.items())


def may_join(table: DeltaTable) -> bool:
    """Whether files with the same rows may take the place of others; no change is recorded for that."""
    protocol = table.protocol()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    return features <= _FEATURES and not table.metadata().partition_columns


class LogWriter:
    """Writes files and commits of a table that `is_plain`; `version`: the one that the next commit follows."""

    def __init__(self, lake: Lake, path: str, version: int) -> None:
        self.version = version
        self._objects = lake.objects(path)

    def read(self, path: str) -> pa.Table:
        """Read a file of the table. Raises: obstore's errors, OSError."""
        content = pa.BufferReader(obstore.get(self._objects, path).bytes())
        # Spark writes times as INT96; in nanoseconds, Arrow's choice, the year 2300 would be another one.
        return pq.read_table(content, coerce_int96_timestamp_unit="us")

    def write(self, rows: pa.Table) -> tuple[DataFile, dict[str, Any]]:
        """Write rows as a file, which no version has yet. Returns: the file, without ranges, and its statistics."""
        content, path = io.BytesIO(), f"part-{uuid.uuid4()}.{COMPRESSION}.parquet"
        pq.write_table(rows, content, **arrow_options(rows))
        obstore.put(self._objects, path, content.getvalue())
        return DataFile(path, content.tell()), statistics(rows)

    def drop(self, files: Sequence[DataFile]) -> None:
        """Remove files that no version has."""
        obstore.delete(self._objects, [file.path for file in files])

    def commit(
        self,
        commit: Commit | None,
        added: Sequence[tuple[DataFile, Mapping[str, Any]]],
        removed: Sequence[DataFile] = (),
        *,
        same_rows: bool = False,
    ) -> None:
        """Put the next entry of the log.

        Args:
            commit: recorded with it, so that a repetition can be recognised.
            same_rows: as `log_entry` takes it.
        Raises: obstore's AlreadyExistsError if another writer was faster, or this entry had been put already; other
            errors if it is unknown whether the commit succeeded.
        """
        entry = log_entry(commit, added, removed, datetime.now(timezone.utc), same_rows=same_rows)
        name = f"_delta_log/{self.version + 1:020d}.json"
        obstore.put(self._objects, name, entry, mode="create")
        self.version += 1


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with a table's columns and types; a column that they lack is NULL."""
    names = set(rows.column_names)
    values = [
        rows[field.name].cast(field.type)
        if field.name in names
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(values, schema=schema)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without Arrow's widths and views, which Parquet does not have."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind

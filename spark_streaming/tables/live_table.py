"""A silver table as its only writer knows it: its files, their rows, and commits made without reading the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from spark_streaming.tables.data_files import DataFile, RowCache, files_of, is_ordered
from spark_streaming.tables.engine_protocol import Commit
from spark_streaming.tables.log_writer import LogWriter, conformed, is_plain, plain_type
from spark_streaming.tables.silver_table import SilverTable


class LiveTable:
    """The files of a table at `version`, and the rows of those that were used lately.

    Hold the table's lock. At another version of the table, make a new one.

    Args:
        cache: shared by all tables.
    """

    def __init__(self, table: SilverTable, cache: RowCache) -> None:
        handle = table.handle()
        self._table = table
        self._cache = cache
        self._log = LogWriter(table.lake, table.path, table.version())
        self.schema = _schema(table, handle)
        self.is_plain = is_plain(handle)
        self.files = files_of(handle, table.contract.key)
        self._written: list[tuple[DataFile, dict[str, Any]]] = []

    @property
    def version(self) -> int:
        return self._log.version

    def rows(self, file: DataFile) -> pa.Table:
        """The rows of a file, with the table's columns and types. Raises: obstore's errors, OSError."""
        address = f"{self._table.path}/{file.path}"
        rows = self._cache.get(address)
        if rows is None or rows.schema != self.schema:
            rows = conformed(self._log.read(file.path), self.schema)
            self._cache.put(address, rows)
        return rows

    def write(self, rows: pa.Table) -> None:
        """Write rows to a new file, which the next commit adds to the table; without rows, write nothing.

        Raises: obstore's errors, OSError.
        """
        if not len(rows):
            return
        rows = rows.combine_chunks()
        file, stats = self._log.write(rows)
        self._cache.put(f"{self._table.path}/{file.path}", rows)
        self._written.append((self._ranged(file, stats), stats))

    def commit(self, commit: Commit, replaced: Sequence[DataFile]) -> None:
        """Commit all files written since the last commit, in place of the replaced ones.

        Raises: as `LogWriter.commit`. After an error, here or in `write`, discard this object: the commit may have succeeded.
        """
        added, self._written = self._written, []
        self._log.commit(commit, added, replaced)
        for file in replaced:
            del self.files[file.path]
            self._cache.drop(f"{self._table.path}/{file.path}")
        self.files.update((file.path, file) for file, _ in added)
        self._table.advanced(self._log.version)

    def joined(
        self,
        version: int,
        added: Iterable[tuple[DataFile, dict[str, Any]]],
        removed: Iterable[DataFile],
    ) -> None:
        """Follow a commit that put some files in the place of others with the same rows."""
        for file in removed:
            del self.files[file.path]
            self._cache.drop(f"{self._table.path}/{file.path}")
        self.files.update((file.path, self._ranged(file, stats)) for file, stats in added)
        self._log.version = version

    def _ranged(self, file: DataFile, stats: dict[str, Any]) -> DataFile:
        low, high = stats["minValues"], stats["maxValues"]
        ranges = {
            name: (low[name], high[name])
            for name in self._table.contract.key
            if is_ordered(self.schema.field(name).type) and name in low and name in high
        }
        return replace(file, ranges=ranges)


def _schema(table: SilverTable, handle: DeltaTable) -> pa.Schema:
    """The table's columns: with the contract's types, and those that the source has dropped with their own."""
    wanted = table.contract.silver_schema()
    fields = []
    for field in pa.schema(handle.schema().to_arrow()):
        known = wanted.get_field_index(field.name)
        kind = field.type if known < 0 else wanted.field(known).type
        fields.append(pa.field(field.name, plain_type(kind)))
    return pa.schema(fields)

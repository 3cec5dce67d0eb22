"""Follows a Delta table commit by commit, without listing its log.

The embedded store reads a whole folder for each listing, and a busy table's log has thousands of
entries. The next commit's name is predictable, so a check for it costs one small request.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import TableNotFoundError

from spark_streaming.storage.lake import Lake

COMMITS_MAX = 40  # read one by one; if there are more, the whole table is read
WHOLE_BYTES_MAX = 1 << 20  # a smaller file is read at once, which takes fewer requests


class Follower:
    """Reads the new rows of one table at each poll. A missing table has none.

    Rewritten rows are not repeated: a commit that also removes files is skipped, because it only
    compacts them.

    Args:
        rereads: such a commit may also have changed rows, so the whole table is read again.
        version: rows after this version are new; None reads the whole table first.
    """

    def __init__(
        self,
        lake: Lake,
        path: str,
        columns: list[str],
        *,
        rereads: bool = False,
        version: int | None = None,
    ) -> None:
        self._rereads = rereads
        self._lake = lake
        self._path = path
        self._columns = columns
        self._files: Any = lake.filesystem()
        self._version = version

    def poll(self) -> tuple[pa.Table | None, bool]:
        """Return (the new rows or None, whether they are the whole table).

        Raises: OSError if the object store does not answer.
        """
        if self._version is None:
            return self._whole()
        added: list[pa.Table] = []
        for _ in range(COMMITS_MAX):
            actions = self._commit(self._version + 1)
            if actions is None:
                return _concatenated(added), False
            self._version += 1
            if any("remove" in action for action in actions):
                if self._rereads:
                    return self._whole()
            else:
                files = [action["add"] for action in actions if "add" in action]
                added += [self._read(file["path"], file["size"]) for file in files]
        return self._whole()

    def _whole(self) -> tuple[pa.Table | None, bool]:
        try:
            table = self._lake.table(self._path)
        except TableNotFoundError:
            return None, False
        # Not as a dataset, which would import pandas: 50 MB.
        parts = [self._read(uri.split(f"/{self._path}/", 1)[1]) for uri in table.file_uris()]
        self._version = int(table.version())
        return _concatenated(parts), True

    def _commit(self, version: int) -> list[dict[str, Any]] | None:
        path = f"{self._path}/_delta_log/{version:020d}.json"
        try:
            with self._files.open_input_stream(path) as stream:
                return [json.loads(line) for line in stream.readall().splitlines() if line]
        except FileNotFoundError:
            return None

    def _read(self, path: str, size: int = WHOLE_BYTES_MAX) -> pa.Table:
        address = f"{self._path}/{path}"
        if size < WHOLE_BYTES_MAX:
            with self._files.open_input_stream(address, compression=None) as stream:
                return self._columns_of(pa.BufferReader(stream.readall()))
        with self._files.open_input_file(address) as file:
            return self._columns_of(file)

    def _columns_of(self, file: Any) -> pa.Table:
        parquet = pq.ParquetFile(file)
        names = set(parquet.schema_arrow.names)
        return _plain(parquet.read(columns=[name for name in self._columns if name in names]))


def _concatenated(parts: list[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(parts, promote_options="default") if parts else None


def _plain(rows: pa.Table) -> pa.Table:
    """Cast string views to strings.

    Files that delta-rs updated or merged have string views, which Arrow does not concatenate with
    the strings of appended files.
    """
    fields = [
        field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))

"""Follow a Delta table commit by commit, without listing its log.

The embedded store reads a whole folder for each listing, and a busy table's log has thousands of
entries. The next commit's name is known, so asking for it costs one small request.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import TableNotFoundError

from spark_streaming.lake import Lake

COMMITS_MAX = 40  # read one by one; a table that ran further ahead is read anew
WHOLE_BYTES_MAX = 1 << 20  # a smaller file is had at once: by parts it takes more requests


class Follower:
    """The rows of one table, as they come. A table that is not there has none.

    What its writer rewrites comes once: a commit that also removes is passed over, for it only
    joins files. With `rereads` it may have changed rows, and the whole table comes again.

    Args:
        version: what came after this version of the table is news; without one all of it is.
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
        """What is new: (rows or None, whether they are the whole table and not only new rows).

        Raises: OSError where the store does not answer.
        """
        if self._version is None:
            return self._whole()
        found: list[pa.Table] = []
        for _ in range(COMMITS_MAX):
            actions = self._commit(self._version + 1)
            if actions is None:
                return (
                    pa.concat_tables(found, promote_options="default") if found else None
                ), False
            self._version += 1
            if any("remove" in action for action in actions):
                if self._rereads:
                    return self._whole()
            else:
                added = [action["add"] for action in actions if "add" in action]
                found += [self._read(add["path"], add["size"]) for add in added]
        return self._whole()

    def _whole(self) -> tuple[pa.Table | None, bool]:
        try:
            table = self._lake.table(self._path)
        except TableNotFoundError:
            return None, False
        # Not as a dataset: that part of pyarrow brings pandas along, 50 MB for nothing.
        parts = [self._read(uri.split(f"/{self._path}/", 1)[1]) for uri in table.file_uris()]
        self._version = int(table.version())
        return (pa.concat_tables(parts, promote_options="default") if parts else None), True

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
        return parquet.read(columns=[name for name in self._columns if name in names])

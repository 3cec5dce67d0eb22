"""Reads silver, and writes each table of `ml` by one commit, so that a reader sees a complete list."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import TableNotFoundError

from app.errors import HeadwaterError
from spark_streaming.storage.lake import Lake

KEPT_HOURS = 7 * 24  # replaced files are kept this long, so that older lists can be read


class ModelTables:
    """The tables that a model reads and writes. `versions`: table → Delta version that was read.

    Args:
        lake: `Lake.for_writing()`, which refuses a store that overwrites objects before a model is fitted.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self.versions: dict[str, int] = {}

    def read(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Read columns of a silver table.

        Raises: HeadwaterError if silver has no such table.
        """
        found = self.read_if_there(table, columns)
        if found is None:
            raise HeadwaterError(
                f"silver has no table `{table}`",
                detail=f"observed no Delta table at {self._lake.url(self._lake.silver_path(table))}",
                hint="`./headwater sql 'SHOW TABLES'` lists silver's; `./headwater up` starts the demo store",
            )
        return found

    def read_if_there(self, table: str, columns: Sequence[str]) -> pa.Table | None:
        """Read columns of a silver table; None if there is no such table."""
        try:
            delta = self._lake.table(self._lake.silver_path(table))
        except TableNotFoundError:
            return None
        self.versions[table] = delta.version()
        return delta.to_pyarrow_table(columns=list(columns))

    def replace(self, name: str, rows: pa.Table) -> None:
        """Replace all rows of `ml.<name>` in one commit; delete files that were replaced more than a week ago.

        Raises: HeadwaterError if there are no rows (the table stays as it is); OSError.
        """
        if not len(rows):
            raise HeadwaterError(
                f"the model has nothing for `ml.{name}`", detail="the table stays as it is"
            )
        self._write(name, rows, "overwrite")

    def add(self, name: str, rows: pa.Table) -> None:
        """Add rows to `ml.<name>`."""
        self._write(name, rows, "append")

    def _write(self, name: str, rows: pa.Table, mode: str) -> None:
        lake = self._lake
        read = {f"read.{table}": str(version) for table, version in self.versions.items()}
        write_deltalake(
            lake.url(f"ml/{name}"),
            rows,
            mode=mode,
            schema_mode="overwrite" if mode == "overwrite" else "merge",
            storage_options=lake.storage_options(),
            commit_properties=CommitProperties(custom_metadata=read),
        )
        lake.table(f"ml/{name}").vacuum(retention_hours=KEPT_HOURS, dry_run=False)

"""Manages tables that show a moment, beside silver's current ones: `silver/<name>` in the lake.

Their descriptions explain them. The ledger does not name them, so nothing verifies them,
measures their freshness or writes to them. `tables` registers them for Trino, like every folder of
silver.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.fs as pa_fs
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.rebuild.moment import Moment
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.tables.data_files import TARGET_FILE_BYTES
from spark_streaming.tables.rewritten_rows import REWRITE_ROWS

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,126}")
_MARK = "rebuilt from bronze: "


def description(table: str, moment: Moment) -> str:
    """Return the description of a table's copy at a moment."""
    return f"{_MARK}{table} as of LSN {lsn_text(moment.lsn)}"


def is_name(name: str) -> bool:
    """Whether a table may have this name."""
    return _NAME.fullmatch(name) is not None


class ExtraTables:
    """The extra tables of one lake."""

    def __init__(self, lake: Lakehouse) -> None:
        self._lakehouse = lake
        self._lake = lake.lake

    def find(self, name: str, wanted: str) -> DeltaTable | None:
        """Return the table that already has this name and description; None if the name is free.

        Raises: HeadwaterError if the name cannot be a table's, or another table has it.
        """
        if not is_name(name):
            raise HeadwaterError(
                f"`{name}` cannot be a table's name",
                hint="letters a to z, digits and _, at most 127, the first one no digit",
            )
        found = self._description(name)
        if found is None and name not in self._lakehouse.ledger():
            return None
        if found != wanted:
            what = found if found and found.startswith(_MARK) else "another table of silver"
            raise HeadwaterError(
                f"the name `{name}` is taken",
                detail=f"it is {what}",
                hint="choose another one: `--as NAME`",
            )
        return self._lakehouse.silver(name)

    def write(self, name: str, source: DeltaTable, text: str) -> DeltaTable:
        """Write a table's rows as `silver/<name>` in one commit. Returns: the new table.

        Raises: DeltaError if the table exists by now.
        """
        schema = pa.schema(source.schema().to_arrow())
        batches = source.to_pyarrow_dataset().to_batches(
            batch_size=REWRITE_ROWS, batch_readahead=2, fragment_readahead=1
        )
        write_deltalake(
            self._lake.url(self._lake.silver_path(name)),
            pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches)),
            mode="error",
            name=name,
            description=text,
            target_file_size=TARGET_FILE_BYTES,
            storage_options=self._lake.storage_options(),
        )
        return self._lakehouse.silver(name)

    def drop(self, name: str) -> None:
        """Remove an extra table. Raises: HeadwaterError if there is none of this name."""
        found = self._description(name) if is_name(name) else None
        if found is None or not found.startswith(_MARK):
            others = ", ".join(self.names()) or "none"
            raise HeadwaterError(
                f"there is no table `{name}` that `rebuild --until` has made",
                detail="this drops only such tables, never one that follows its source",
                hint=f"there are: {others}",
            )
        self._lake.filesystem().delete_dir(self._lake.silver_path(name))

    def names(self) -> list[str]:
        """Return the names of all extra tables, sorted."""
        selector = pa_fs.FileSelector("silver", allow_not_found=True)
        folders = [str(i.base_name) for i in self._lake.filesystem().get_file_info(selector)]
        return sorted(n for n in folders if (self._description(n) or "").startswith(_MARK))

    def _description(self, name: str) -> str | None:
        """Return a table's description, "" if it has none; None if there is no table."""
        try:
            return str(self._lakehouse.silver(name).metadata().description or "")
        except TableNotFoundError:
            return None

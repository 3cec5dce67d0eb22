"""Removes files of Delta tables that newer versions no longer use and that still hold an erased row.

Without them time travel to a version that had the row fails instead of showing it. Files that the newest version uses, and old files
without the row, stay. Nothing is committed: that is for the table's writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as parquet
from deltalake.exceptions import TableNotFoundError

from app.errors import HeadwaterError
from app.trace.trace_silver import plain_type
from spark_streaming.storage.lake import Lake


class Rows(NamedTuple):
    """How erased rows are recognized.

    Args:
        columns: the columns that tell; rows of a file without them are not the erased ones.
        filter_of: builds the filter for a table's schema, which has these columns.
    """

    columns: tuple[str, ...]
    filter_of: Callable[[pa.Schema], pc.Expression]

    def fit(self, schema: pa.Schema) -> bool:
        """Whether a table of this schema may have such rows."""
        return set(self.columns) <= set(schema.names)


class OldFile(NamedTuple):
    """A file that holds an erased row: its path in the lake, and its size."""

    path: str
    size: int


def old_files_with(lake: Lake, path: str, rows: Rows) -> list[OldFile]:
    """Return the old files of the table at `path` that hold such rows; none if there is no table.

    Files of the change data feed count as old files.
    Raises: DeltaError, OSError.
    """
    files = lake.filesystem()
    # The files are listed first: what a writer adds afterwards has none of these rows.
    listed = list(_data_files(files, path))
    try:
        used = {_name(uri) for uri in lake.table(path).file_uris()}
    except TableNotFoundError:
        return []
    return [
        OldFile(str(info.path), int(info.size or 0))
        for info in listed
        if _name(str(info.path)) not in used and _has(files, str(info.path), rows)
    ]


def remove(lake: Lake, files: list[OldFile]) -> None:
    """Remove files; one that is gone already is no failure. Raises: OSError."""
    store = lake.filesystem()
    for file in files:
        if store.get_file_info(file.path).type == pa_fs.FileType.File:
            try:
                store.delete_file(file.path)
            except FileNotFoundError:
                continue  # the writer's own vacuum was faster


def check_gone(lake: Lake, path: str, rows: Rows) -> None:
    """Raise HeadwaterError if the newest version of a table still has such rows."""
    try:
        dataset = lake.table(path).to_pyarrow_dataset()
    except TableNotFoundError:
        return
    if rows.fit(dataset.schema) and dataset.count_rows(filter=rows.filter_of(dataset.schema)):
        raise HeadwaterError(
            f"table {path} still has the row",
            detail="the erasure is not finished; it continues at its next run",
            hint="run the same command again",
        )


def _data_files(files: Any, path: str) -> Iterator[Any]:
    selector = pa_fs.FileSelector(path, allow_not_found=True, recursive=True)
    log = f"{path}/_delta_log/"
    for info in files.get_file_info(selector):
        place = str(info.path)
        if info.is_file and place.endswith(".parquet") and not place.startswith(log):
            yield info


def _name(path: str) -> str:
    return unquote(path.rsplit("/", 1)[1])


def _has(files: Any, path: str, rows: Rows) -> bool:
    try:
        with files.open_input_file(path) as stream:
            file = parquet.ParquetFile(stream)
            if not rows.fit(file.schema_arrow):
                return False
            return any(
                _among(batch, rows) for batch in file.iter_batches(columns=list(rows.columns))
            )
    except FileNotFoundError:
        return False


def _among(batch: pa.RecordBatch, rows: Rows) -> bool:
    # Arrow does not filter the view types that delta-rs writes.
    plain = pa.schema([field.with_type(plain_type(field.type)) for field in batch.schema])
    table = pa.Table.from_batches([batch]).cast(plain)
    return bool(table.filter(rows.filter_of(plain)).num_rows)

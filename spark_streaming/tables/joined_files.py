"""Joins a table's small files into larger ones, without making its writer wait.

Files never change. So the small ones are read and the large ones written while merges go on; the writer's lock is
held only to look which commits came meanwhile, and to put one entry of the log on the condition that it is the next.
If a merge has replaced one of the files, nothing is committed, and the new files, which belong to no
version, are removed at once: a row in them may have been erased meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from obstore.exceptions import AlreadyExistsError

from spark_streaming.storage.lake import Lake
from spark_streaming.tables.data_files import SMALL_FILE_BYTES, TARGET_FILE_BYTES, DataFile
from spark_streaming.tables.log_writer import LogWriter, conformed, plain_type

# Insert-only batches leave one small file each. Checking costs little, joining rewrites them.
JOIN_FILES_MIN = 12
# At once: what is read, decoded and written before anything else has its turn.
JOIN_BYTES_MAX = 2 * TARGET_FILE_BYTES


@dataclass(frozen=True)
class Joined:
    """One commit that put `added` files, with their statistics, in the place of `removed` ones."""

    version: int
    added: Sequence[tuple[DataFile, dict[str, Any]]]
    removed: Sequence[DataFile]


def small_files(table: DeltaTable) -> list[DataFile]:
    """The files below SMALL_FILE_BYTES, oldest first; none if there are fewer than JOIN_FILES_MIN."""
    found = pa.table(table.get_add_actions(flatten=True)).select(
        ["path", "size_bytes", "modification_time"]
    )
    rows = found.sort_by([("modification_time", "ascending"), ("path", "ascending")]).to_pylist()
    small = [
        DataFile(r["path"], r["size_bytes"]) for r in rows if r["size_bytes"] < SMALL_FILE_BYTES
    ]
    return small if len(small) >= JOIN_FILES_MIN else []


def packed(files: Sequence[DataFile]) -> list[list[DataFile]]:
    """Group files, in their order, into parts of at most TARGET_FILE_BYTES, JOIN_BYTES_MAX in all."""
    parts: list[list[DataFile]] = [[]]
    size, total = 0, 0
    for file in files:
        total += file.size
        if total > JOIN_BYTES_MAX:
            break
        if size + file.size > TARGET_FILE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(file)
        size += file.size
    return [part for part in parts if len(part) > 1]


def join_small_files(
    lake: Lake,
    path: str,
    table: DeltaTable,
    holding: AbstractContextManager[None],
    noted: Callable[[Joined], None],
) -> Joined | None:
    """Join some small files, as the module's docstring says. Returns: the commit; None if there is none.

    Args:
        table: a handle that nobody else uses; `may_join` holds for it.
        holding: holds the writer's lock. noted: called with the commit, as long as it is held.
    """
    parts = packed(small_files(table))
    if not parts:
        return None
    log = LogWriter(lake, path, table.version())
    fields = pa.schema(table.schema().to_arrow())
    schema = pa.schema([pa.field(f.name, plain_type(f.type)) for f in fields])
    added = [
        log.write(
            pa.concat_tables(conformed(log.read(f.path), schema) for f in part).combine_chunks()
        )
        for part in parts
    ]
    removed = [file for part in parts for file in part]
    with holding:
        version = _commit(lake, table, log, fields, added, removed)
        if version is not None:
            done = Joined(version, added, removed)
            noted(done)
            return done
    log.drop([file for file, _ in added])
    return None


def _commit(
    lake: Lake,
    table: DeltaTable,
    log: LogWriter,
    fields: pa.Schema,
    added: Sequence[tuple[DataFile, dict[str, Any]]],
    removed: Sequence[DataFile],
) -> int | None:
    """Put the entry that follows the newest one. Returns: its version; None if the files do not fit any more."""
    table.update_incremental()
    if pa.schema(table.schema().to_arrow()) != fields:
        return None
    if not _paths(table).issuperset(file.path for file in removed):
        return None
    log.version = int(table.version())
    lake.fence()
    try:
        log.commit(None, added, removed, same_rows=True)
        return log.version
    except AlreadyExistsError:  # somebody else's commit, or this one, whose answer was lost
        table.update_incremental()
        return int(table.version()) if added[0][0].path in _paths(table) else None


def _paths(table: DeltaTable) -> set[str]:
    return set(pa.table(table.get_add_actions())["path"].to_pylist())

"""Defines a merge; engines carry it out in different ways.

A folded batch is merged into one table in **one commit**:

1. A batch whose (application id, version) the table has recorded already is skipped whole.
2. Rows of silver with `_lsn` below `truncate_lsn` or `resnapshot_lsn` are removed.
3. Keyed tables: an upsert replaces the row of its key, and a delete removes it, each only if its
   `_guard_lsn` is not lower than the row's `_lsn`. `_keep_<column>` leaves that column as it is
   in silver, and a row with such a flag is never inserted.
   Keyless tables: copies are added and removed by value; null equals null. If silver does not have
   a copy that is to be removed, the copy counts as missing, and nothing changes.
4. `_merged_at` is the time of the merge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from spark_streaming.contract.lsn import Lsn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame

    from spark_streaming.contract.contract import Contract
    from spark_streaming.fold.keyed import Folded
    from spark_streaming.tables.silver_table import SilverTable

OP = "_op"
GUARD = "_guard_lsn"
KEEP = "_keep_"
TIMESTAMP = pa.timestamp("us", tz="UTC")


class MergeError(Exception):
    """A merge ended in a state that its own counts contradict; the table must not continue."""


@dataclass(frozen=True)
class Commit:
    """The identity of one merge: a table takes each `version` of an `app_id` at most once."""

    app_id: str
    version: int


class Counts(NamedTuple):
    """Rows that one merge inserted, updated and deleted, and rows to delete that silver lacked.

    The last are counted for keyless tables only.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    missing: int = 0


@dataclass(frozen=True)
class MergeResult:
    """What one merge did. `skipped`: the table had this commit already and nothing was written.

    In a keyless table an update removes one copy and adds one, so `updated` is 0. `missing` counts
    the copies to remove that silver does not have. `engine` is the one that merged; "": the one that was asked to.
    """

    delta_version: int
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    missing: int = 0
    skipped: bool = False
    engine: str = ""

    @property
    def upserted(self) -> int:
        """Rows that were written."""
        return self.inserted + self.updated

    def after(self, previous: MergeResult | None) -> MergeResult:
        """Combine with the previous merge of the same table."""
        if previous is None:
            return self
        return replace(
            self,
            inserted=previous.inserted + self.inserted,
            updated=previous.updated + self.updated,
            deleted=previous.deleted + self.deleted,
            missing=previous.missing + self.missing,
        )


class MergeEngine(Protocol):
    """One way to merge; the caller holds the table's lock, so an engine has a table to itself."""

    name: str

    def merge(self, table: SilverTable, folded: Folded, commit: Commit) -> MergeResult:
        """Merge `folded` into `table` in one commit, or skip a repeated one."""
        ...


class RowsEngine(MergeEngine, Protocol):
    """A merge engine that also takes rows that are not in the driver's memory."""

    def merge_rows(
        self,
        table: SilverTable,
        rows: DataFrame,
        commit: Commit,
        *,
        count: int,
        bounds: Mapping[str, tuple[Any, Any]],
    ) -> MergeResult:
        """Merge folded rows of a keyed table in one commit, or skip a repeated one.

        Args:
            rows: as Folded.rows; each key is in one row only.
            count: the approximate number of rows.
            bounds: the least and greatest value of key columns; files outside them are not opened.
        """
        ...


def floor_lsn(folded: Folded) -> Lsn | None:
    """The LSN below which the merge removes rows of silver; None if it removes none."""
    floors = [lsn for lsn in (folded.truncate_lsn, folded.resnapshot_lsn) if lsn is not None]
    return max(floors) if floors else None


def kept_columns(rows: Any) -> list[str]:
    """Columns that at least one row of the batch leaves as they are in silver."""
    names = rows.column_names if isinstance(rows, pa.Table) else rows.columns
    return [name[len(KEEP) :] for name in names if name.startswith(KEEP)]


def silver_columns(contract: Contract) -> list[str]:
    """All columns of the silver table, the source's first."""
    return list(contract.silver_schema().names)


def stamped(rows: pa.Table, merged_at: datetime | None = None) -> pa.Table:
    """The rows with `_merged_at` (by default now, in UTC)."""
    moment = merged_at or datetime.now(timezone.utc)
    column = pa.array([moment], TIMESTAMP).take(pa.array([0] * len(rows), pa.int64()))
    return rows.append_column("_merged_at", column)

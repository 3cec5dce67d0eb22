"""Silver's progress from its ledger: how far each partition is merged, and the complete LSN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from app.lake.table_follower import Follower
from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.ops.stopped import FAILING, RESUMING, STOPPED
from spark_streaming.ops.whole_batches import COLUMNS, WholeBatches
from spark_streaming.storage.lake import LEDGER, Lake

_COLUMNS = [
    "table_name", "merged_at", "offsets", "complete_lsn", "state", "stopped_at", *COLUMNS,
]  # fmt: skip
_STOPPED_STATES = (STOPPED, RESUMING, FAILING)
Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True)
class Stopped:
    """The offsets and the complete LSN of a table that is stopped or catching up.

    `since`: when it was stopped.
    """

    offsets: dict[Place, int]
    complete_lsn: Lsn | None
    since: datetime


class SilverState:
    """The newest state by the ledger; `refresh` reads the rows since the last call.

    `positions`: (topic, partition) → the offset that the query has read to. `complete_lsn`:
    bytes, None before the first batch that proves one. `batch_at`: when the newest batch ended;
    with several jobs, that of the job most behind.
    `target_s`: a table's freshness target in seconds.
    """

    def __init__(self, lake: Lake, target_s: Callable[[str], float]) -> None:
        self._lake = lake
        self._ledger = Follower(lake, LEDGER, _COLUMNS)
        self.target_s = target_s
        self.positions: dict[Place, int] = {}
        self.complete_lsn: Lsn | None = None
        self.batch_at: datetime | None = None
        self._whole = WholeBatches()
        self._merged: dict[Place, datetime] = {}
        self._tables: dict[str, tuple[datetime, Stopped | None]] = {}

    def refresh(self) -> None:
        """Follow the ledger. Raises: OSError, DeltaError if the store does not answer."""
        try:
            rows, whole = self._ledger.poll()
        except Exception:
            self._ledger = Follower(self._lake, LEDGER, _COLUMNS)
            raise
        if whole:
            self.positions.clear()
        if rows is not None:
            self.apply(rows)

    def apply(self, rows: pa.Table) -> None:
        """Apply rows of the ledger, in any order."""
        for row in rows.to_pylist():
            at, lsn = row["merged_at"], row["complete_lsn"]
            offsets = _places(row["offsets"])
            # Each table has a row of its own; one row for the whole batch names all topics.
            if row["table_name"] != WHOLE_BATCH:
                known = self._tables.get(row["table_name"])
                if known is None or at >= known[0]:
                    stopped = None
                    if row.get("state") in _STOPPED_STATES:
                        stopped = Stopped(offsets, lsn, row.get("stopped_at") or at)
                    self._tables[row["table_name"]] = (at, stopped)
                continue
            self._whole.add(row)
            for place, offset in offsets.items():
                if offset > self.positions.get(place, -1):
                    self.positions[place] = offset
                    self._merged[place] = at
        self.complete_lsn = self._whole.complete_lsn or self.complete_lsn
        ends = [one.at for one in self._whole.jobs() if one.at is not None]
        self.batch_at = min(ends) if ends else self.batch_at

    def table_positions(self) -> dict[Place, int]:
        """Return how far each partition is merged; a stopped table is behind the streaming query."""
        found = dict(self.positions)
        for _, stopped in self._tables.values():
            if stopped is not None:
                found.update(stopped.offsets)
        return found

    def stopped(self) -> dict[str, datetime]:
        """Return tables that are stopped, catch up, or fail in a repeated batch → since when."""
        return {
            name: stopped.since
            for name, (_, stopped) in self._tables.items()
            if stopped is not None
        }

    def complete_lsn_of(self, table: str, whole: Lsn) -> Lsn:
        """Return a table's complete LSN: its own while it is stopped, otherwise `whole` (silver's)."""
        _, stopped = self._tables.get(table, (None, None))
        return whole if stopped is None or stopped.complete_lsn is None else stopped.complete_lsn

    def merged_at(self, place: Place, offset: int) -> datetime | None:
        """Return the end of the batch that merged the event at `offset`; None until it is merged."""
        return self._merged.get(place) if self.positions.get(place, 0) > offset else None


def _places(text: str | None) -> dict[Place, int]:
    return {
        (topic, number): offset
        for topic, partitions in offsets_of(text).items()
        for number, offset in partitions.items()
    }

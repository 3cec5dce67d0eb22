"""What silver's ledger says: how far each partition is merged, and complete up to which LSN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from app.follow import Follower
from spark_streaming.lake import LEDGER, Lake
from spark_streaming.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.stopped import FAILING, RESUMING, STOPPED

_COLUMNS = ["table_name", "merged_at", "offsets", "complete_lsn", "state", "stopped_at"]
_HELD_STATES = (STOPPED, RESUMING, FAILING)
Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True)
class Held:
    """A table that is stopped or catches up: where it goes on from, and what it is complete to.

    `since`: when it was stopped.
    """

    offsets: dict[Place, int]
    complete_lsn: int | None
    since: datetime


class SilverState:
    """The ledger's newest word; `refresh` reads what was added since the last call.

    `positions`: (topic, partition) → the offset that the query has read to. `complete_lsn`:
    bytes, None before the first batch that proves one. `batch_at`: when the newest batch ended.
    `target_s`: a table's freshness target in seconds.
    """

    def __init__(self, lake: Lake, target_s: Callable[[str], float]) -> None:
        self._lake = lake
        self._ledger = Follower(lake, LEDGER, _COLUMNS)
        self.target_s = target_s
        self.positions: dict[Place, int] = {}
        self.complete_lsn: int | None = None
        self.batch_at: datetime | None = None
        self._merged: dict[Place, datetime] = {}
        self._tables: dict[str, tuple[datetime, Held | None]] = {}

    def refresh(self) -> None:
        """Follow the ledger. Raises: OSError, DeltaError where the store does not answer."""
        try:
            rows, whole = self._ledger.poll()
        except Exception:
            self._ledger = Follower(self._lake, LEDGER, _COLUMNS)
            raise
        if whole:
            self.positions.clear()
        if rows is not None:
            self.take(rows)

    def take(self, rows: pa.Table) -> None:
        """Take rows of the ledger in, in any order."""
        for row in rows.to_pylist():
            at, lsn = row["merged_at"], row["complete_lsn"]
            offsets = _places(row["offsets"])
            # Beside each table's own row the whole batch has one that names all its topics.
            if row["table_name"] != WHOLE_BATCH:
                known = self._tables.get(row["table_name"])
                if known is None or at >= known[0]:
                    held = None
                    if row.get("state") in _HELD_STATES:
                        held = Held(offsets, lsn, row.get("stopped_at") or at)
                    self._tables[row["table_name"]] = (at, held)
                continue
            if self.batch_at is None or at > self.batch_at:
                self.batch_at = at
            if lsn is not None:
                self.complete_lsn = max(self.complete_lsn or 0, lsn)
            for place, offset in offsets.items():
                if offset > self.positions.get(place, -1):
                    self.positions[place] = offset
                    self._merged[place] = at

    def table_positions(self) -> dict[Place, int]:
        """How far each partition is merged: a stopped table's are its own, behind the query's."""
        found = dict(self.positions)
        for _, held in self._tables.values():
            if held is not None:
                found.update(held.offsets)
        return found

    def stopped(self) -> dict[str, datetime]:
        """Tables that are stopped, catch up or fail in a batch that is repeated → since when."""
        return {name: held.since for name, (_, held) in self._tables.items() if held is not None}

    def complete_lsn_of(self, table: str, whole: int) -> int:
        """What a table is complete to; `whole` where it goes along with all of silver."""
        _, held = self._tables.get(table, (None, None))
        return whole if held is None or held.complete_lsn is None else held.complete_lsn

    def merged_at(self, place: Place, offset: int) -> datetime | None:
        """When a batch ended that had merged the event at `offset`; None: not merged yet."""
        return self._merged.get(place) if self.positions.get(place, 0) > offset else None


def _places(text: str | None) -> dict[Place, int]:
    return {
        (topic, number): offset
        for topic, partitions in offsets_of(text).items()
        for number, offset in partitions.items()
    }

"""Reads the lake's Delta tables and objects directly from the object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.lake.pin import committed_names, version_before_the_next_merge
from spark_streaming.batch.rebuild_state import rebuild_of
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.envelope import HighWater
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.ops.resume_requests import request_resume
from spark_streaming.ops.stopped import Slice
from spark_streaming.ops.whole_batches import COLUMNS, WholeBatches
from spark_streaming.quarantine.quarantine import OPEN, event_of, unresolved_rows
from spark_streaming.storage.lake import LEDGER, QUARANTINE, Lake, bronze_files
from spark_streaming.tables.silver_names import SilverNames

SCAN_BATCH_ROWS = 16_384
_LEDGER_TIME = pa.timestamp("us", "UTC")
LEDGER_COLUMNS = [
    "table_name",
    "batch_id",
    "delta_version",
    "offsets",
    "complete_lsn",
    "merged_at",
    "high_water",
    "state",
    "reason",
    "tries",
    "query_id",
    "generation",
    "planned",
]


@dataclass(frozen=True)
class LedgerEntry:
    """The newest ledger row of one table: its Delta version and the events merged into it.

    Args:
        offsets: topic → partition → next offset.
        complete_lsn: up to which silver holds every commit, in bytes; None if not known.
        high_water: the last merged position of each partition.
        state: running, refused, stopped, resuming or failing.
        reason: why it is not running.
        tries: its failures in a row.
        query_id: the streaming query that wrote the row.
        generation: the rebuild that made the table's rows; "" without one.
        rebuild: the rebuild that is about to replace them; "" without one.
    """

    table: str
    batch_id: int
    delta_version: int | None
    offsets: dict[str, dict[int, int]]
    complete_lsn: Lsn | None
    merged_at: datetime
    high_water: HighWater
    state: str = "running"
    reason: str | None = None
    tries: int = 0
    query_id: str = ""
    generation: str = ""
    rebuild: str = ""


class Lakehouse:
    """Read access to one stack's bronze and lake buckets."""

    def __init__(self, settings: Settings) -> None:
        self._store = settings.store
        self._lake = Lake(self._store)
        self._names = SilverNames(self._lake)

    @property
    def lake(self) -> Lake:
        """Return the addresses of the lake bucket."""
        return self._lake

    @property
    def names(self) -> SilverNames:
        """Return the mapping from source tables to silver's names."""
        return self._names

    def silver_name(self, given: str) -> str:
        """Return silver's name of a table.

        `given` may be silver's name, `schema.table` of the source, or a table of `public`. A name
        that the lake does not know stays as it is.
        """
        sources = ContractStore(self._lake, "").tables()
        known = {self._names.of(*source): source for source in sources}
        if given in known:
            return given
        wanted = (given, f"public.{given}")
        matching = (name for name, source in known.items() if ".".join(source) in wanted)
        return next(matching, given)

    def silver(self, table: str, version: int | None = None) -> DeltaTable:
        """Open silver table `table` (at `version`); raises TableNotFoundError if there is none."""
        return self._lake.table(self._lake.silver_path(table), version)

    def pinned(self, entry: LedgerEntry) -> DeltaTable | None:
        """Open the table with exactly the merges up to `entry`; None without a table.

        That is the newest version if no other merge has been committed since, otherwise the last
        one before that merge. So changes by other writers than the job are included.
        """
        try:
            newest = self.silver(entry.table)
        except TableNotFoundError:
            return None
        path = self._lake.silver_path(entry.table)
        version = version_before_the_next_merge(
            entry.delta_version,
            int(newest.version()),
            lambda version: committed_names(self._lake, path, version),
        )
        return newest if version == newest.version() else self.silver(entry.table, version)

    def bronze_files(self) -> Any:
        """Return the bronze bucket as a pyarrow file system, rooted at the bucket."""
        return bronze_files(self._store)

    def rows(self, table: str, version: int | None, columns: list[str]) -> Iterator[Any]:
        """Yield Arrow batches of a silver table's `columns`, in bounded memory and any order."""
        dataset = self.silver(table, version).to_pyarrow_dataset()
        yield from dataset.to_batches(columns=columns, batch_size=SCAN_BATCH_ROWS)

    def request_resume(self, table: str) -> None:
        """Ask the streaming job to retry the stopped silver table `table` at once."""
        request_resume(self._lake, table)

    def ledger(
        self, since: datetime | None = None, opened: DeltaTable | None = None
    ) -> dict[str, LedgerEntry]:
        """Return the newest ledger entry of each table; empty before the first batch.

        Args:
            since: only entries merged after this time.
            opened: the ledger if the caller has opened it already.
        """
        try:
            ledger = opened or self._lake.table(LEDGER)
        except TableNotFoundError:
            return {}
        wanted = None if since is None else pc.field("merged_at") > pa.scalar(since, _LEDGER_TIME)
        dataset = ledger.to_pyarrow_dataset()
        # A ledger of a previous release gets its new columns with silver's next batch.
        columns = [name for name in LEDGER_COLUMNS if name in dataset.schema.names]
        return newest_entries(dataset.to_table(columns=columns, filter=wanted))

    def quarantined(self, table: str) -> Iterator[tuple[RawEvent, str]]:
        """Yield (event, reason) of the table's entries whose row differs from the source's.

        These are the unresolved entries and those replayed with other values.
        """
        try:
            for batch in unresolved_rows(self._lake, QUARANTINE, table, edited=True):
                for row in batch:
                    status = row.get("status") or OPEN
                    if row.get("replayed_values"):
                        status += f" with {row['replayed_values']}"
                    yield event_of(row), f"{row['rule']}: {row['reason']} ({status})"
        except TableNotFoundError:
            return

    def complete_lsn(self) -> Lsn:
        """Return the LSN up to which all tables that run are complete; 0 before the first batch."""
        try:
            dataset = self._lake.table(LEDGER).to_pyarrow_dataset()
        except TableNotFoundError:
            return LOG_START
        whole = pc.field("table_name") == pa.scalar(WHOLE_BATCH)
        # A previous release's ledger lacks some of them.
        columns = {"merged_at", "complete_lsn", *COLUMNS} & set(dataset.schema.names)
        rows = dataset.to_table(columns=sorted(columns), filter=whole).to_pylist()
        return Lsn(WholeBatches(rows).complete_lsn or 0)


def newest_entries(rows: pa.Table) -> dict[str, LedgerEntry]:
    """Return the newest entry of each table among ledger rows in any order."""
    order = [("merged_at", "ascending"), ("batch_id", "ascending")]
    newest: dict[str, dict[str, Any]] = {}
    for row in rows.sort_by(order).to_pylist():
        # A batch without new changes of a table advances its offsets, not its version.
        if row["delta_version"] is None and row["table_name"] in newest:
            row["delta_version"] = newest[row["table_name"]]["delta_version"]
        newest[row["table_name"]] = row
    return {name: ledger_entry(row) for name, row in newest.items() if name}


def ledger_entry(row: dict[str, Any]) -> LedgerEntry:
    """Parse a ledger row, a mapping by column name."""
    return LedgerEntry(
        row["table_name"],
        row["batch_id"],
        row["delta_version"],
        offsets_of(row["offsets"]),
        row["complete_lsn"],
        row["merged_at"],
        HighWater.from_json(row.get("high_water") or "{}"),
        row.get("state") or "running",
        row.get("reason"),
        row.get("tries") or 0,
        row.get("query_id") or "",
        row.get("generation") or "",
        rebuild_of(Slice.from_json(row["planned"]) if row.get("planned") else None) or "",
    )


def batch_rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Yield the batch's rows as tuples of Python values, in column order."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)

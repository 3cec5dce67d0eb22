"""The lake's Delta tables and objects, read directly from the object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pydantic import SecretStr

from app.settings import Settings
from spark_streaming.envelope import HighWater
from spark_streaming.events import RawEvent
from spark_streaming.lake import LEDGER, QUARANTINE, Lake
from spark_streaming.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.offsets import version_of
from spark_streaming.quarantine import OPEN, event_of, unresolved_rows
from spark_streaming.rebuild_state import rebuild_of
from spark_streaming.resume_requests import request_resume
from spark_streaming.settings import StoreSettings
from spark_streaming.stopped import Slice

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
    """What silver last said of one table: its Delta version and the events merged into it.

    `offsets` is topic → partition → next offset, `high_water` the last position merged of each
    partition, `complete_lsn` in bytes or None, `state` running, refused, stopped, resuming or
    failing, `reason` why it is not running, `tries` its failures in a row; `query_id` names the
    streaming query that wrote it. `generation` is the rebuild that its rows come from (""
    without), `rebuild` the one that is about to take their place.
    """

    table: str
    batch_id: int
    delta_version: int | None
    offsets: dict[str, dict[int, int]]
    complete_lsn: int | None
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
        # Given by name, each beats the variable of the same name in the environment.
        self._store = StoreSettings(
            s3_endpoint=settings.s3_endpoint,
            s3_region=settings.profile.s3_region,
            s3_access_key=SecretStr(settings.secret("s3_access_key")),
            s3_secret_key=SecretStr(settings.secret("s3_secret_key")),
            lake_bucket=settings.lake_bucket,
        )
        self._lake = Lake(self._store)
        self._bronze = settings.bronze_bucket

    @property
    def lake(self) -> Lake:
        """The lake bucket's addresses."""
        return self._lake

    def silver(self, table: str, version: int | None = None) -> DeltaTable:
        """Silver table `table` (at `version`); raises TableNotFoundError where there is none."""
        return self._lake.table(self._lake.silver_path(table), version)

    def pinned(self, entry: LedgerEntry) -> DeltaTable | None:
        """Silver as it is after exactly the merges that `entry` tells of; None without a table.

        That is the newest version while no other merge has been committed since, so that what
        anybody else changed in the table is looked at, too; otherwise the entry's own version.
        """
        try:
            newest = self.silver(entry.table)
            if entry.delta_version in (None, newest.version()):
                return newest
            merged = newest.transaction_version(f"headwater:{entry.query_id}:{entry.table}")
            # A table that catches up merges slices of its own, under another application id.
            told = version_of(entry.batch_id)
            if entry.state == "running" and (merged is None or merged <= told):
                return newest
            return self.silver(entry.table, entry.delta_version)
        except TableNotFoundError:
            return None

    def bronze_files(self) -> Any:
        """The bronze bucket as a pyarrow file system, rooted at the bucket."""
        lake_at = replace_bucket(self._store, self._bronze)
        return Lake(lake_at).filesystem()

    def rows(self, table: str, version: int | None, columns: list[str]) -> Iterator[Any]:
        """Arrow batches of a silver table's `columns`, in bounded memory, in no order."""
        dataset = self.silver(table, version).to_pyarrow_dataset()
        yield from dataset.to_batches(columns=columns, batch_size=SCAN_BATCH_ROWS)

    def request_resume(self, table: str) -> None:
        """Ask the streaming job to go on with stopped silver table `table` at once."""
        request_resume(self._lake, table)

    def ledger(
        self, since: datetime | None = None, opened: DeltaTable | None = None
    ) -> dict[str, LedgerEntry]:
        """The newest ledger entry of each table, merged after `since`; empty before the first.

        opened: the ledger as the caller has it; opened anew where it is left out.
        """
        try:
            ledger = opened or self._lake.table(LEDGER)
        except TableNotFoundError:
            return {}
        wanted = None if since is None else pc.field("merged_at") > pa.scalar(since, _LEDGER_TIME)
        dataset = ledger.to_pyarrow_dataset()
        # A ledger of an earlier release gets its new columns with silver's next batch.
        columns = [name for name in LEDGER_COLUMNS if name in dataset.schema.names]
        return newest_entries(dataset.to_table(columns=columns, filter=wanted))

    def quarantined(self, table: str) -> Iterator[tuple[RawEvent, str]]:
        """What quarantine keeps silver from: (event, why). Unresolved entries, and those that
        silver took with other values."""
        try:
            dataset = self._lake.table(QUARANTINE).to_pyarrow_dataset()
        except TableNotFoundError:
            return
        for batch in unresolved_rows(dataset, table, edited=True):
            for row in batch:
                status = row["status"] or OPEN
                if row.get("replayed_values"):
                    status += f" with {row['replayed_values']}"
                yield event_of(row), f"{row['rule']}: {row['reason']} ({status})"

    def complete_lsn(self) -> int:
        """The LSN to which every table that is not stopped is complete; 0 before the first."""
        try:
            dataset = self._lake.table(LEDGER).to_pyarrow_dataset()
        except TableNotFoundError:
            return 0
        whole = pc.field("table_name") == pa.scalar(WHOLE_BATCH)
        found = dataset.to_table(columns=["complete_lsn"], filter=whole)["complete_lsn"]
        return int(pc.max(found).as_py() or 0)


def replace_bucket(store: StoreSettings, bucket: str) -> StoreSettings:
    """The same store with `bucket` in the place of the lake's."""
    return store.model_copy(update={"lake_bucket": bucket})


def newest_entries(rows: pa.Table) -> dict[str, LedgerEntry]:
    """The newest entry of each table among rows of the ledger, in any order."""
    order = [("merged_at", "ascending"), ("batch_id", "ascending")]
    newest: dict[str, dict[str, Any]] = {}
    for row in rows.sort_by(order).to_pylist():
        # A batch that found nothing new for a table moves its offsets on, not its version.
        if row["delta_version"] is None and row["table_name"] in newest:
            row["delta_version"] = newest[row["table_name"]]["delta_version"]
        newest[row["table_name"]] = row
    return {name: ledger_entry(row) for name, row in newest.items() if name}


def ledger_entry(row: dict[str, Any]) -> LedgerEntry:
    """Read one ledger row, a mapping of its column names."""
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
    """The batch's rows as tuples of Python values, in column order."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)

"""The ledger: what each batch did to each table, and how far each table is complete."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from spark_streaming.engines.protocol import TIMESTAMP
from spark_streaming.lake import LEDGER, Lake
from spark_streaming.position import HighWater

Offsets = dict[str, dict[int, int]]
WHOLE_BATCH = ""  # `table_name` of the row that stands for the batch

SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("batch_id", pa.int64()),
        ("table_name", pa.string()),
        ("merged_at", TIMESTAMP),
        ("delta_version", pa.int64()),
        ("engine", pa.string()),
        ("rows_in", pa.int64()),
        ("rows_upserted", pa.int64()),
        ("rows_deleted", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("rows_skipped", pa.int64()),
        ("offsets", pa.string()),
        ("high_water", pa.string()),
        ("complete_lsn", pa.int64()),
        ("source_time", TIMESTAMP),
        ("duration_ms", pa.int64()),
        ("refusal", pa.string()),
    ]
)
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True)
class LedgerRow:
    """One table's part of one batch, or the whole batch (`table_name` empty).

    `source_time`: a table's row has the commit time of its newest row in the batch; the whole
    batch has the time in the source that all tables are complete to, as `complete_lsn`.
    """

    query_id: str
    batch_id: int
    table_name: str
    delta_version: int | None = None
    engine: str | None = None
    rows_in: int = 0
    rows_upserted: int = 0
    rows_deleted: int = 0
    rows_quarantined: int = 0
    rows_skipped: int = 0
    offsets: Offsets = field(default_factory=dict)
    high_water: HighWater = field(default_factory=HighWater)
    complete_lsn: int | None = None
    source_time: datetime | None = None
    duration_ms: int = 0
    refusal: str | None = None
    merged_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def as_dict(self) -> dict[str, object]:
        """The row as the ledger's columns hold it."""
        row = {name: getattr(self, name) for name in SCHEMA.names}
        row["offsets"] = json.dumps(self.offsets)
        row["high_water"] = self.high_water.to_json()
        return row


@dataclass(frozen=True)
class Restored:
    """What the ledger knows: how far each partition was merged, by position and by offset, what
    silver is complete to, and the newest commit time of the source that was merged."""

    offsets: Offsets = field(default_factory=dict)
    high_water: HighWater = field(default_factory=HighWater)
    complete_lsn: int | None = None
    seen_time: datetime | None = None


class Ledger:
    """The ledger table in the lake; one writer."""

    def __init__(self, lake: Lake, query_id: str, properties: dict[str, str | None]) -> None:
        self._lake = lake
        self._app_id = f"headwater:{query_id}:ledger"
        self._properties = properties
        self._handle: DeltaTable | None = None
        self._last_version: int | None = None
        self.lock = threading.Lock()

    def handle(self) -> DeltaTable:
        """The open table; made where there is none."""
        if self._handle is None:
            try:
                self._handle = self._lake.table(LEDGER)
            except TableNotFoundError:
                self._handle = DeltaTable.create(
                    self._lake.url(LEDGER),
                    schema=SCHEMA,
                    mode="ignore",
                    configuration=self._properties,
                    storage_options=self._lake.storage_options(),
                )
        return self._handle

    def forget(self) -> None:
        """Look at the store again at the next use."""
        self._handle = None
        self._last_version = None

    def restore(self) -> Restored:
        """What a new process has to know of the batches before it."""
        columns = ["table_name", "offsets", "high_water", "complete_lsn", "source_time"]
        rows = self.handle().to_pyarrow_dataset().to_table(columns=columns)
        merged, offsets = HighWater(), Offsets()
        for text in rows["high_water"].to_pylist():
            merged = merged.merge(HighWater.from_json(text))
        for text in rows["offsets"].to_pylist():
            for topic, partitions in json.loads(text).items():
                known = offsets.setdefault(topic, {})
                for number, offset in partitions.items():
                    known[int(number)] = max(offset, known.get(int(number), 0))
        whole = rows.filter(pc.equal(rows["table_name"], WHOLE_BATCH))
        return Restored(
            offsets,
            merged,
            pc.max(whole["complete_lsn"]).as_py(),
            pc.max(rows["source_time"]).as_py(),
        )

    def append(self, rows: Sequence[LedgerRow], batch_id: int) -> None:
        """Write a batch's rows in one commit; a batch that is there already is left alone."""
        with self.lock:
            if self._recorded() >= batch_id:
                return
            self._write(
                pa.Table.from_pylist([row.as_dict() for row in rows], schema=SCHEMA),
                mode="append",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(self._app_id, batch_id)]
                ),
            )
            self._last_version = batch_id

    def _write(self, rows: pa.Table, **options: Any) -> None:
        try:
            write_delta(self.handle(), rows, post_commithook_properties=_HOOKS, **options)
        except Exception:
            self.forget()
            raise

    def _recorded(self) -> int:
        if self._last_version is None:
            found = self.handle().transaction_version(self._app_id)
            self._last_version = -1 if found is None else int(found)
        return self._last_version

    def compact(self, keep_since: datetime) -> None:
        """Keep the rows since `keep_since` and the newest row of each table, in one file."""
        with self.lock:
            rows = self.handle().to_pyarrow_dataset().to_table().cast(SCHEMA)
            newest = rows.group_by("table_name").aggregate([("merged_at", "max")])
            latest = newest.rename_columns(["table_name", "merged_at"]).append_column(
                "newest", pa.array([True] * len(newest), pa.bool_())
            )
            marked = rows.join(latest, ["table_name", "merged_at"])
            kept = pc.or_kleene(
                pc.greater_equal(marked["merged_at"], pa.scalar(keep_since, TIMESTAMP)),
                pc.fill_null(marked["newest"], False),
            )
            self._write(marked.filter(kept).select(SCHEMA.names), mode="overwrite")

"""The ledger: the effect of each batch on each table, and the LSN up to which each table is complete."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
)
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError
from obstore.exceptions import AlreadyExistsError

from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.table_share import TableShare
from spark_streaming.events.position import HighWater
from spark_streaming.ops.stopped import FAILING, RESUMING, RUNNING, STOPPED, Slice, Stop
from spark_streaming.ops.whole_batches import COLUMNS, WholeBatches
from spark_streaming.storage.lake import LEDGER, Lake
from spark_streaming.tables.data_files import files_of
from spark_streaming.tables.engine_protocol import TIMESTAMP, Commit
from spark_streaming.tables.log_writer import LogWriter, is_plain

Offsets = dict[str, dict[int, int]]
WHOLE_BATCH = ""  # `table_name` of the row for the whole batch

SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("batch_id", pa.int64()),
        ("table_name", pa.string()),
        ("merged_at", TIMESTAMP),
        ("delta_version", pa.int64()),
        ("engine", pa.string()),
        ("rows_in", pa.int64()),
        ("rows_upserted", pa.int64()),  # inserted and updated
        ("rows_deleted", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("rows_skipped", pa.int64()),
        ("offsets", pa.string()),
        ("high_water", pa.string()),
        ("complete_lsn", pa.int64()),
        ("source_time", TIMESTAMP),
        ("duration_ms", pa.int64()),
        ("refusal", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("stopped_at", TIMESTAMP),
        ("tries", pa.int64()),
        ("planned", pa.string()),
        ("generation", pa.string()),
        ("freshness_targets", pa.string()),
        ("rows_inserted", pa.int64()),
        ("rows_updated", pa.int64()),
        ("job", pa.int64()),
        ("share", pa.string()),
    ]
)
_RESTORED = [
    "query_id",
    "batch_id",
    "table_name",
    "merged_at",
    "offsets",
    "high_water",
    "complete_lsn",
    "source_time",
    "state",
    "reason",
    "stopped_at",
    "tries",
    "planned",
    "generation",
    *COLUMNS,
]
_TICK = timedelta(microseconds=1)
_COMPACT_TRIES = 5
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True)
class LedgerRow:
    """One table's part of one batch, or the whole batch (`table_name` empty).

    `source_time`: in a table's row, the commit time of its newest row in the batch; in that of the
    whole batch, the time in the source to which all tables are complete, as with `complete_lsn`.
    `state`: running, refused, stopped, resuming (a stopped table that is catching up) or failing
    (its batch failed and is repeated). In the last three states `reason`, `stopped_at` and `tries`
    give details; the table resumes from `offsets`; `complete_lsn` and `source_time` say how far it
    is complete and do not change; `planned` is the merge that was begun last (`Slice`).
    `generation`: the id of the rebuild that the table's rows come from; None if it was never
    rebuilt. Only ledger rows of the newest row's generation say how far a table is merged.
    `rows_missing`, for metrics only: rows of a keyless table that were to be deleted but are not in
    silver. `freshness_targets`, for the whole batch: JSON, silver table → seconds.
    """

    query_id: str
    batch_id: int
    table_name: str
    delta_version: int | None = None
    engine: str | None = None
    rows_in: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_missing: int = 0
    rows_deleted: int = 0
    rows_quarantined: int = 0
    rows_skipped: int = 0
    offsets: Offsets = field(default_factory=dict)
    high_water: HighWater = field(default_factory=HighWater)
    complete_lsn: Lsn | None = None
    source_time: datetime | None = None
    duration_ms: int = 0
    refusal: str | None = None
    state: str = RUNNING
    reason: str | None = None
    stopped_at: datetime | None = None
    tries: int = 0
    planned: Slice | None = None
    generation: str | None = None
    freshness_targets: str | None = None
    merged_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def rows_upserted(self) -> int:
        """The number of rows inserted or updated."""
        return self.rows_inserted + self.rows_updated

    def as_dict(self) -> dict[str, object]:
        """The row as the ledger's columns hold it."""
        row = {name: getattr(self, name, None) for name in SCHEMA.names}
        row["offsets"] = json.dumps(self.offsets)
        row["high_water"] = self.high_water.to_json()
        row["planned"] = self.planned.to_json() if self.planned else None
        return row


@dataclass(frozen=True)
class Restored:
    """The state that a new process takes from the ledger.

    It holds how far each partition was read, by position and offset; the LSN and the source's time
    to which silver is complete; the stopped tables; by (query, batch, silver table), how often a
    table failed in a batch that failed because of it; each rebuilt table's generation.
    """

    offsets: Offsets = field(default_factory=dict)
    high_water: HighWater = field(default_factory=HighWater)
    complete_lsn: Lsn | None = None
    complete_time: datetime | None = None
    stops: list[Stop] = field(default_factory=list)
    failures: dict[tuple[str, int, str], int] = field(default_factory=dict)
    generations: dict[str, str] = field(default_factory=dict)


class Ledger:
    """The ledger table in the lake; each job of silver appends to it.

    Args:
        share: the tables of this job; each row names the job that wrote it.
    """

    def __init__(
        self,
        lake: Lake,
        query_id: str,
        properties: dict[str, str | None],
        share: TableShare | None = None,
    ) -> None:
        self._lake = lake
        self._share = share or TableShare()
        self._app_id = f"headwater:{query_id}:ledger"
        self._properties = properties
        self._handle: DeltaTable | None = None
        self._last_version: int | None = None
        self._newest: datetime | None = None
        self._log: LogWriter | None = None
        self.lock = threading.Lock()

    def handle(self) -> DeltaTable:
        """The open table; made if there is none."""
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
            have = set(self._handle.schema().to_arrow().names)
            missing = [field for field in SCHEMA if field.name not in have]
            if missing:  # made by an earlier release
                new = Schema.from_arrow(pa.schema(missing))
                self._handle.alter.add_columns(list(new.fields))
        elif self._log is not None and self._handle.version() < self._log.version:
            self._handle.update_incremental()
        return self._handle

    def forget(self) -> None:
        """Drop the handle, so that the next use reads the object store."""
        self._handle = self._log = None
        self._last_version = None

    def restore(self) -> Restored:
        """Read the state that a new process continues from."""
        rows = self.handle().to_pyarrow_dataset().to_table(columns=_RESTORED)
        self._newest = pc.max(rows["merged_at"]).as_py()
        merged, offsets = HighWater(), Offsets()
        latest = {row["table_name"]: row for row in rows.sort_by("merged_at").to_pylist()}
        marks = (rows[name].to_pylist() for name in ("table_name", "generation", "high_water"))
        for name, generation, text in zip(*marks, strict=True):
            if generation == latest[name]["generation"]:
                merged = merged.merge(HighWater.from_json(text))
        for text in rows["offsets"].to_pylist():
            for topic, partitions in offsets_of(text).items():
                known = offsets.setdefault(topic, {})
                for number, offset in partitions.items():
                    known[number] = max(offset, known.get(number, 0))
        whole = rows.filter(pc.equal(rows["table_name"], WHOLE_BATCH)).to_pylist()
        reached = WholeBatches(whole).of(self._share.number, self._share.name)
        return Restored(
            offsets,
            merged,
            reached.complete_lsn,
            reached.time,
            [_stop(row) for row in latest.values() if row["state"] in (STOPPED, RESUMING)],
            {
                (row["query_id"], row["batch_id"], row["table_name"]): row["tries"]
                for row in latest.values()
                if row["state"] == FAILING
            },
            {name: row["generation"] for name, row in latest.items() if row["generation"]},
        )

    def has(self, batch_id: int) -> bool:
        """Whether this batch of the query, or a later one, is in the ledger."""
        with self.lock:
            return self._recorded() >= batch_id

    def note(self, rows: Sequence[LedgerRow]) -> None:
        """Write rows in one commit that does not count as the end of their batch."""
        with self.lock:
            self._append(self._stamped(rows), None)

    def _stamped(self, rows: Sequence[LedgerRow]) -> pa.Table:
        """The rows in the table's schema, each with a later time than all previous ones.

        The newest row of a table counts, so this must hold even after the clock was set back.
        """
        own = {"job": self._share.number, "share": self._share.name}
        found = [{**row.as_dict(), **own} for row in rows]
        for row, given in zip(found, rows, strict=True):
            earliest = self._newest + _TICK if self._newest else given.merged_at
            row["merged_at"] = self._newest = max(given.merged_at, earliest)
        return pa.Table.from_pylist(found, schema=SCHEMA)

    def append(self, rows: Sequence[LedgerRow], batch_id: int) -> None:
        """Write a batch's rows in one commit; a repeated batch is skipped."""
        with self.lock:
            if self._recorded() >= batch_id:
                return
            self._append(self._stamped(rows), Commit(self._app_id, batch_id))
            self._last_version = batch_id

    def _append(self, rows: pa.Table, commit: Commit | None) -> None:
        """Append rows in one commit, at once if no other job has written meanwhile."""
        if self._log is None and is_plain(self.handle()):
            self._log = LogWriter(self._lake, LEDGER, self.handle().version())
        if self._log is not None:
            try:
                return self._log.commit(commit, [self._log.write(rows)])
            except AlreadyExistsError:  # another job's commit, or this one, whose answer was lost
                self.forget()
                if commit is not None and self._recorded() >= commit.version:
                    return None
            except Exception:
                self.forget()
                raise
        named = None
        if commit is not None:
            named = CommitProperties(app_transactions=[Transaction(commit.app_id, commit.version)])
        return self._write(rows, mode="append", commit_properties=named)

    def _write(self, rows: pa.Table, **options: Any) -> None:
        try:
            write_delta(self.handle(), rows, post_commithook_properties=_HOOKS, **options)
        except Exception:
            self.forget()
            raise
        self._log = None  # it follows an earlier version

    def _recorded(self) -> int:
        if self._last_version is None:
            found = self.handle().transaction_version(self._app_id)
            self._last_version = -1 if found is None else int(found)
        return self._last_version

    def compact(self, keep_since: datetime) -> None:
        """Keep the rows since `keep_since` and the newest row of each table and job, in one file.

        Rows are read and written while batches append; the lock is held for the commit alone, which replaces only the
        files that were read. If another job's commit is faster each time, all stays as it is.
        """
        table = self._lake.table(LEDGER)
        kept = _kept(table.to_pyarrow_table(columns=SCHEMA.names).cast(SCHEMA), keep_since)
        if not is_plain(table):
            with self.lock:  # as it is now: it has been read without the lock
                rows = self.handle().to_pyarrow_table(columns=SCHEMA.names).cast(SCHEMA)
                self._write(_kept(rows, keep_since), mode="overwrite")
            return
        log = LogWriter(self._lake, LEDGER, table.version())
        old, new = list(files_of(table, ()).values()), [log.write(kept)]
        for _ in range(_COMPACT_TRIES):
            with self.lock:
                log.version = self._log.version if self._log else int(self.handle().version())
                try:
                    log.commit(None, new, old)
                except AlreadyExistsError:  # another job's batch
                    self.forget()
                    continue
                if self._log is not None:
                    self._log.version = log.version
                else:
                    self.forget()
                return


def _kept(rows: pa.Table, since: datetime) -> pa.Table:
    """Of the ledger's rows, those since a time and the newest of each table and job."""
    rows = rows.append_column("of", pa.array(map(_of, rows.to_pylist()), pa.string()))
    newest = rows.group_by("of").aggregate([("merged_at", "max")])
    latest = newest.rename_columns(["of", "merged_at"]).append_column(
        "newest", pa.array([True] * len(newest), pa.bool_())
    )
    marked = rows.join(latest, ["of", "merged_at"])
    kept = pc.or_kleene(
        pc.greater_equal(marked["merged_at"], pa.scalar(since, TIMESTAMP)),
        pc.fill_null(marked["newest"], False),
    )
    return _with_versions(marked).filter(kept).select(SCHEMA.names)


def _of(row: dict[str, Any]) -> str:
    """The subject of a row: a table, or the whole batches of a job."""
    return row["table_name"] or f"/{row['share']}/{row['job']}"


def _with_versions(rows: pa.Table) -> pa.Table:
    """Fill in a table's Delta version in rows of batches that merged nothing of it.

    The row that recorded the version may then be removed.
    """
    versions = rows["delta_version"].to_pylist()
    places = pc.sort_indices(rows, sort_keys=[("merged_at", "ascending")]).to_pylist()
    names, known = rows["table_name"].to_pylist(), dict[str, int | None]()
    for place in places:
        if versions[place] is None:
            versions[place] = known.get(names[place])
        known[names[place]] = versions[place]
    number = rows.column_names.index("delta_version")
    return rows.set_column(number, "delta_version", pa.array(versions, pa.int64()))


def offsets_of(text: str | None) -> Offsets:
    """A row's `offsets`: topic → partition → the next offset; empty if it has none."""
    return {
        topic: {int(partition): int(offset) for partition, offset in partitions.items()}
        for topic, partitions in json.loads(text or "{}").items()
    }


def _stop(row: dict[str, Any]) -> Stop:
    [(topic, offsets)] = offsets_of(row["offsets"]).items()
    return Stop(
        topic,
        row["table_name"],
        row["reason"] or "",
        row["stopped_at"],
        offsets,
        Slice.from_json(row["planned"]) if row["planned"] else None,
        row["tries"] or 0,
        row["complete_lsn"],
        row["source_time"],
        generation=row["generation"] or "",
    )

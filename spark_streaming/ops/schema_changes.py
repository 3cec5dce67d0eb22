"""Records the outcomes of each change of a source table, one row of `ops/schema_changes` for each.

Outcomes: `applied` (silver follows), `noted` (silver need not change), `quarantined` (events of
the new shape wait), `stopped` (the table waits), `left_out` (the table is not captured at all). A
change that waits and is applied later has a row for each.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone

import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.lsn import Lsn
from spark_streaming.storage.lake import SCHEMA_CHANGES, Lake
from spark_streaming.tables.engine_protocol import TIMESTAMP

log = logging.getLogger(__name__)
APPLIED, NOTED, QUARANTINED, STOPPED = "applied", "noted", "quarantined", "stopped"
LEFT_OUT = "left_out"
TRUNCATES_KEPT = timedelta(days=7)
SCHEMA = pa.schema(
    [
        ("table_name", pa.string()),
        ("kind", pa.string()),
        ("from_version", pa.int64()),
        ("to_version", pa.int64()),
        ("lsn", pa.int64()),
        ("policy", pa.string()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("warning", pa.string()),
        ("recorded_at", TIMESTAMP),
    ]
)
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True)
class RecordedChange:
    """One change of one table, with its outcome.

    Args:
        table_name: silver's.
        from_version, to_version: versions of its contract; 0 means that there was no table.
        lsn: a position in the source's log at which it had happened; that of the TRUNCATE itself.
        policy: the policy from the contract file, or the default.
        outcome: one of the module's docstring.
    """

    table_name: str
    kind: str
    from_version: int
    to_version: int
    lsn: Lsn
    policy: str
    outcome: str
    detail: str
    warning: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        """What identifies a record, because a repeated batch sees a change again."""
        mark = self.lsn if self.from_version == self.to_version else self.to_version
        # Each process sees a lasting state again.
        if self.outcome == LEFT_OUT:
            mark = 0
        elif self.kind == "table_dropped":
            mark = self.to_version
        return (self.table_name, self.kind, mark, self.outcome, self.detail)


class SchemaChanges:
    """The table in the lake; one writer. Changes are rare, so rows are kept for good.

    Only rows of TRUNCATE are kept for TRUNCATES_KEPT: some jobs empty a table each minute.
    """

    path = SCHEMA_CHANGES

    def __init__(self, lake: Lake, properties: dict[str, str | None]) -> None:
        self._lake = lake
        self._properties = properties
        self._known: set[tuple[object, ...]] | None = None
        self._waiting: list[RecordedChange] = []
        # Batches and maintenance hold it while they write.
        self.lock = threading.Lock()
        self._queue_lock = threading.Lock()
        self.found: list[RecordedChange] = []  # not yet taken by the metrics

    def ensure(self) -> DeltaTable:
        """The table; made if there is none, so that SQL finds it before the first change."""
        try:
            return self._lake.table(SCHEMA_CHANGES)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(SCHEMA_CHANGES),
                schema=SCHEMA,
                mode="ignore",
                configuration=self._properties,
                storage_options=self._lake.storage_options(),
            )

    def note(self, changes: Sequence[RecordedChange]) -> None:
        """Keep changes, which the next `flush` records."""
        with self._queue_lock:
            self._waiting += changes

    def put(self, changes: Sequence[RecordedChange]) -> None:
        """Record changes now, unless they are recorded already."""
        self.note(changes)
        self.flush()

    def flush(self) -> None:
        """Write the recorded changes in one commit."""
        with self.lock:
            with self._queue_lock:
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            try:
                self._write(waiting)
            except Exception:
                self.note(waiting)
                raise

    def _write(self, changes: list[RecordedChange]) -> None:
        table = self.ensure()
        if self._known is None:
            rows = table.to_pyarrow_table(columns=[n for n in SCHEMA.names if n != "recorded_at"])
            self._known = {RecordedChange(**row).identity for row in rows.to_pylist()}
        new = list({c.identity: c for c in changes if c.identity not in self._known}.values())
        if not new:
            return
        now = datetime.now(timezone.utc)
        rows = [{**asdict(change), "recorded_at": now} for change in new]
        write_delta(
            table,
            pa.Table.from_pylist(rows, schema=SCHEMA),
            mode="append",
            post_commithook_properties=_HOOKS,
        )
        self._known |= {change.identity for change in new}
        self.found += new
        for change in new:
            if change.kind == "table_added" and change.outcome == APPLIED:
                continue
            level = logging.WARNING if change.warning or change.outcome != APPLIED else logging.INFO
            log.log(
                level,
                "table %s: %s (%s): %s%s%s",
                change.table_name,
                change.kind,
                change.detail,
                change.outcome,
                f", by policy {change.policy}" if change.policy else "",
                f"\n  {change.warning}" if change.warning else "",
            )

    def taken(self) -> list[RecordedChange]:
        """The changes recorded since the last call, for metrics."""
        with self.lock:
            found, self.found = self.found, []
        return found

    def prune(self) -> None:
        """Remove the rows of applied TRUNCATEs that are older than TRUNCATES_KEPT."""
        limit = (datetime.now(timezone.utc) - TRUNCATES_KEPT).isoformat()
        old = f"kind = 'table_truncated' AND outcome = '{APPLIED}' AND recorded_at < '{limit}'"
        # The caller holds the lock: maintenance of a table takes it first.
        self.ensure().delete(old, post_commithook_properties=_HOOKS)
        self._known = None

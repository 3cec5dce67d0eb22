"""Upkeep of the tables by their only writer: log checkpoints, small files, old versions.

It runs in one thread beside the batches and holds a table's lock while it works on it, so it
never conflicts with a merge: other tables go on, a merge of the same table waits at most for
the one step that is under way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Protocol

from deltalake import DeltaTable

from spark_streaming.ledger import Ledger, LedgerRow
from spark_streaming.table import (
    SMALL_FILE_BYTES,
    TARGET_FILE_BYTES,
    SilverTable,
    TableOptions,
)
from spark_streaming.topics import Topics

log = logging.getLogger(__name__)
# A reader that opens a table reads the log since its last checkpoint, one object a commit.
CHECKPOINT_COMMITS = 25
# Insert-only batches leave one small file each. Looking costs little, joining rewrites them.
COMPACT_LOOK_COMMITS = 20
COMPACT_FILES_MIN = 12
LEDGER_COMPACT_COMMITS = 60
LEDGER_KEPT = timedelta(hours=1)
VACUUM_PAUSE_S_MIN = 60.0


class OpsTable(Protocol):
    """A table of `ops` that batches append to; `prune` removes what is too old."""

    lock: threading.Lock

    def ensure(self) -> DeltaTable: ...

    def prune(self) -> None: ...


@dataclass
class _Due:
    commits: int = 0
    vacuumed_at: float = 0.0


class Maintenance:
    """Decides after each batch what is due, and does it in its own thread."""

    def __init__(
        self,
        topics: Topics,
        ledger: Ledger,
        options: TableOptions,
        ops: Mapping[str, OpsTable] | None = None,
    ) -> None:
        self._topics = topics
        self._ops = ops or {}
        self._ledger = ledger
        self._vacuum_pause_s = max(VACUUM_PAUSE_S_MIN, options.retention_minutes * 60 / 3)
        self._due: dict[str, _Due] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="maintenance")
        self._started = time.monotonic()

    def after_batch(self, rows: list[LedgerRow]) -> None:
        """Note a batch's commits and start what is due; returns at once."""
        merged = {row.table_name for row in rows if row.delta_version is not None}
        for table in self._topics.tables():
            if table.name in merged:
                self._note(table.name, partial(keep_table, table))
        self._note("", partial(_keep_ledger, self._ledger))
        for name, kept in self._ops.items():
            self._note(name, partial(keep_ops, name, kept))

    def stop(self) -> None:
        """Start nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _note(self, name: str, work: Callable[[int, bool], None]) -> None:
        due = self._due.setdefault(name, _Due(vacuumed_at=self._started))
        due.commits += 1
        vacuum = time.monotonic() - due.vacuumed_at > self._vacuum_pause_s
        if vacuum:
            due.vacuumed_at = time.monotonic()
        if vacuum or due.commits % 5 == 0:
            self._thread.submit(_guarded, name, work, due.commits, vacuum)


def _guarded(name: str, work: Callable[[int, bool], None], commits: int, vacuum: bool) -> None:
    # Upkeep that fails is tried again when it is next due; data does not depend on it.
    try:
        work(commits, vacuum)
    except Exception as error:  # noqa: BLE001
        log.warning("upkeep of %s failed: %s: %s", name or "ledger", type(error).__name__, error)


def keep_table(table: SilverTable, commits: int, vacuum: bool) -> None:
    """Do what is due for a table after its `commits`-th commit of this process."""
    if commits % COMPACT_LOOK_COMMITS == 0:
        with table.lock:
            _compact(table.name, table.handle())
    if commits % CHECKPOINT_COMMITS == 0:
        with table.lock:
            table.handle().create_checkpoint()
    if vacuum:
        with table.lock:
            _drop_old(table.name, table.handle())


def keep_ops(name: str, table: OpsTable, commits: int, vacuum: bool) -> None:
    """Look after a table that only some batches write to, whenever a vacuum is due."""
    del commits
    if vacuum:
        with table.lock:
            table.prune()
            _compact(name, table.ensure())
            _drop_old(name, table.ensure())


def _keep_ledger(ledger: Ledger, commits: int, vacuum: bool) -> None:
    if commits % LEDGER_COMPACT_COMMITS == 0:
        ledger.compact(datetime.now(timezone.utc) - LEDGER_KEPT)
    with ledger.lock:
        if commits % CHECKPOINT_COMMITS == 0:
            ledger.handle().create_checkpoint()
        if vacuum:
            _drop_old("ledger", ledger.handle())


def _compact(name: str, table: DeltaTable) -> None:
    """Join the files that are less than half as large as they should be, where they are many."""
    sizes = table.get_add_actions(flatten=True)["size_bytes"].to_pylist()
    small = [size for size in sizes if size < SMALL_FILE_BYTES]
    if len(small) < COMPACT_FILES_MIN:
        return
    began = time.monotonic()
    table.optimize.compact(target_size=TARGET_FILE_BYTES, max_concurrent_tasks=1)
    log.debug("joined %d files of %s in %.2f s", len(small), name, time.monotonic() - began)


def _drop_old(name: str, table: DeltaTable) -> None:
    """Delete files and log entries that no version within the retention needs."""
    began = time.monotonic()
    # `full` looks at the files themselves: a checkpoint of the log forgets what was removed
    # before the retention, and what it has forgotten would stay for ever.
    files = table.vacuum(dry_run=False, enforce_retention_duration=False, full=True)
    table.create_checkpoint()
    table.cleanup_metadata()
    log.debug("vacuumed %d files of %s in %.2f s", len(files), name, time.monotonic() - began)

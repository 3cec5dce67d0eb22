"""Upkeep of the tables by their only writer: log checkpoints, small files, old versions.

It runs in one thread beside the batches and holds a table's lock while it commits to it, so it
never conflicts with a merge: other tables go on, a merge of the same table waits at most for
the one step that is under way. What takes long, to list and to delete old files, holds no lock.
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
from deltalake.fs import DeltaStorageHandler

from spark_streaming.lake import LEDGER, Lake
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
    path: str

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
        lake: Lake,
        topics: Topics,
        ledger: Ledger,
        options: TableOptions,
        ops: Mapping[str, OpsTable] | None = None,
    ) -> None:
        self._lake = lake
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
        self._note("", partial(_keep_ledger, self._lake, self._ledger))
        for name, kept in self._ops.items():
            self._note(name, partial(keep_ops, self._lake, kept))

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
        drop_old(table.lake, table.path, table.lock, table.handle)


def keep_ops(lake: Lake, table: OpsTable, commits: int, vacuum: bool) -> None:
    """Look after a table that only some batches write to, whenever a vacuum is due."""
    del commits
    if vacuum:
        with table.lock:
            table.prune()
            _compact(table.path, table.ensure())
        drop_old(lake, table.path, table.lock, table.ensure)


def _keep_ledger(lake: Lake, ledger: Ledger, commits: int, vacuum: bool) -> None:
    if commits % LEDGER_COMPACT_COMMITS == 0:
        ledger.compact(datetime.now(timezone.utc) - LEDGER_KEPT)
    if commits % CHECKPOINT_COMMITS == 0:
        with ledger.lock:
            ledger.handle().create_checkpoint()
    if vacuum:
        drop_old(lake, LEDGER, ledger.lock, ledger.handle)


def _compact(name: str, table: DeltaTable) -> None:
    """Join the files that are less than half as large as they should be, where they are many."""
    sizes = table.get_add_actions(flatten=True)["size_bytes"].to_pylist()
    small = [size for size in sizes if size < SMALL_FILE_BYTES]
    if len(small) < COMPACT_FILES_MIN:
        return
    began = time.monotonic()
    table.optimize.compact(target_size=TARGET_FILE_BYTES, max_concurrent_tasks=1)
    log.debug("joined %d files of %s in %.2f s", len(small), name, time.monotonic() - began)


def drop_old(
    lake: Lake, path: str, lock: threading.Lock, writers: Callable[[], DeltaTable]
) -> None:
    """Delete files and log entries that no version within the retention needs.

    Hundreds of files take seconds to list and to delete. No writer waits for that: the lock is
    held only to ask the writer's own handle what the newest version consists of.

    Args:
        path: of the table below the lake.
        writers: the handle that is written with; called with the lock held.
    """
    began = time.monotonic()
    table = lake.table(path)
    # `full` looks at the files themselves: a checkpoint of the log forgets what was removed
    # before the retention, and what it has forgotten would stay for ever.
    old = table.vacuum(dry_run=True, enforce_retention_duration=False, full=True)
    with lock:
        # A commit that took longer than the retention wrote files that were nobody's until now.
        needed = set(writers().get_add_actions()["path"].to_pylist())
    files = DeltaStorageHandler(lake.url(path), lake.storage_options())
    for name in old:
        if name not in needed:
            files.delete_file(name)
    table.update_incremental()
    table.create_checkpoint()
    table.cleanup_metadata()
    log.debug("deleted %d files of %s in %.2f s", len(old), path, time.monotonic() - began)

"""Maintains the tables in the process that writes them: log checkpoints, small files, old versions.

It runs in one thread beside the batches and holds a table's lock while it commits, so it never
conflicts with a merge. A merge of the same table waits for one step at most; other tables do not
wait. Listing and deleting old files takes long, and holds no lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Protocol

from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from spark_streaming.contract.contract_files import TimeTravel
from spark_streaming.ops.job_metrics import MaintenanceMetrics
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import LEDGER, Lake
from spark_streaming.tables.kept_versions import (
    NOTHING,
    choose,
    files_of,
    listing,
    utc_now,
    window_of,
    write_note,
)
from spark_streaming.tables.silver_table import (
    SMALL_FILE_BYTES,
    TARGET_FILE_BYTES,
    TableOptions,
)

log = logging.getLogger(__name__)
# A reader that opens a table reads one object for each commit since the log's last checkpoint.
CHECKPOINT_COMMITS = 25
# Insert-only batches leave one small file each. Checking costs little, joining rewrites them.
COMPACT_CHECK_COMMITS = 20
COMPACT_FILES_MIN = 12
LEDGER_COMPACT_COMMITS = 60
LEDGER_KEPT = timedelta(hours=1)
VACUUM_PAUSE_S_MIN = 60.0


class Maintained(Protocol):
    """A table that one process writes to: silver's, or a history."""

    lake: Lake
    name: str
    path: str
    lock: threading.Lock

    def handle(self) -> DeltaTable: ...


class OpsTable(Protocol):
    """A table of `ops` that batches append to; `prune` deletes rows that are too old."""

    lock: threading.Lock
    path: str

    def ensure(self) -> DeltaTable: ...

    def prune(self) -> None: ...


@dataclass
class Run:
    """One run of maintenance for a table: its finished steps, and how many files they changed."""

    step: str = ""
    done: set[str] = field(default_factory=set)
    joined: int = 0
    removed: int = 0

    @contextmanager
    def doing(self, step: str) -> Iterator[None]:
        """Note `step` as begun, and as done unless the block raises."""
        self.step = step
        yield
        self.done.add(step)


@dataclass
class _Due:
    commits: int = 0
    vacuumed_at: float = 0.0
    # A failed step stays here until it succeeds in a later run; in most runs it is not due.
    failing: set[str] = field(default_factory=set)


Work = Callable[[int, bool, Run], None]


class Maintenance:
    """Decides after each batch what is due, and runs it in a thread of its own."""

    def __init__(
        self,
        lake: Lake,
        topics: Topics,
        ledger: Ledger | None,
        options: TableOptions,
        ops: Mapping[str, OpsTable] | None = None,
        metrics: MaintenanceMetrics | None = None,
        files: ContractFolder | None = None,
    ) -> None:
        self._lake = lake
        self._topics = topics
        self._ops = ops or {}
        self._ledger = ledger
        self._vacuum_pause_s = max(VACUUM_PAUSE_S_MIN, options.retention_minutes * 60 / 3)
        self._due: dict[str, _Due] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="maintenance")
        self._started = time.monotonic()
        self._metrics = metrics
        self._files = files or ContractFolder()
        # When the waiting and running runs were requested; the one thread takes them in order.
        self._waiting: deque[float] = deque()
        if metrics is not None:
            metrics.show_waiting(self.waiting_s)

    def waiting_s(self) -> float:
        """How long the oldest run has waited or lasted, in seconds; 0 without one."""
        try:
            return time.monotonic() - self._waiting[0]
        except IndexError:
            return 0.0

    def after_batch(self, rows: list[LedgerRow]) -> None:
        """Note a batch's commits and start what is due; returns at once."""
        merged = {row.table_name for row in rows if row.delta_version is not None}
        for table in self._topics.tables():
            if table.name in merged:
                keep = partial(self._files.time_travel_of, table.contract)
                self._note(table.name, partial(maintain_table, table, keep=keep))
        if self._ledger is not None:
            self._note("ops.ledger", partial(_maintain_ledger, self._lake, self._ledger))
        for name, kept in self._ops.items():
            self._note(f"ops.{name}", partial(maintain_ops, self._lake, kept))

    def stop(self) -> None:
        """Start nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _note(self, name: str, work: Work) -> None:
        due = self._due.get(name)
        if due is None:
            due = self._due[name] = _Due(vacuumed_at=self._started)
            if self._metrics is not None:
                self._metrics.known(name)
        due.commits += 1
        vacuum = time.monotonic() - due.vacuumed_at > self._vacuum_pause_s
        if vacuum:
            due.vacuumed_at = time.monotonic()
        if vacuum or due.commits % 5 == 0:
            self._waiting.append(time.monotonic())
            self._thread.submit(self._guarded, name, work, due.commits, vacuum)

    def _guarded(self, name: str, work: Work, commits: int, vacuum: bool) -> None:
        # A failed run is tried again when it is next due: no data depends on maintenance.
        due, run, began = self._due[name], Run(), time.monotonic()
        failed = False
        try:
            work(commits, vacuum, run)
        except Exception as error:  # noqa: BLE001
            failed = True
            due.failing.add(run.step)
            log.warning("maintenance of %s failed: %s: %s", name, type(error).__name__, error)
        finally:
            self._waiting.popleft()
        due.failing -= run.done
        if self._metrics is not None and (failed or run.done):
            self._metrics.ended(
                name,
                time.monotonic() - began,
                joined=run.joined,
                removed=run.removed,
                failed=failed,
                failing=bool(due.failing),
            )


def maintain_table(
    table: Maintained,
    commits: int,
    vacuum: bool,
    run: Run | None = None,
    keep: Callable[[], TimeTravel] = lambda: NOTHING,
) -> None:
    """Run the steps that are due after the `commits`-th commit of this process to a table."""
    run = run or Run()
    if commits % COMPACT_CHECK_COMMITS == 0:
        with run.doing("compact"), table.lock:
            run.joined += _compact(table.name, table.handle())
    if commits % CHECKPOINT_COMMITS == 0:
        with run.doing("checkpoint"), table.lock:
            table.handle().create_checkpoint()
    if vacuum:
        with run.doing("vacuum"):
            run.removed += drop_old(table.lake, table.path, table.lock, table.handle, keep())


def maintain_ops(
    lake: Lake, table: OpsTable, commits: int, vacuum: bool, run: Run | None = None
) -> None:
    """Maintain a table that only some batches write to, whenever a vacuum is due."""
    del commits
    run = run or Run()
    if vacuum:
        with run.doing("compact"), table.lock:
            table.prune()
            run.joined += _compact(table.path, table.ensure())
        with run.doing("vacuum"):
            run.removed += drop_old(lake, table.path, table.lock, table.ensure)


def _maintain_ledger(lake: Lake, ledger: Ledger, commits: int, vacuum: bool, run: Run) -> None:
    if commits % LEDGER_COMPACT_COMMITS == 0:
        with run.doing("compact"):
            ledger.compact(datetime.now(timezone.utc) - LEDGER_KEPT)
    if commits % CHECKPOINT_COMMITS == 0:
        with run.doing("checkpoint"), ledger.lock:
            ledger.handle().create_checkpoint()
    if vacuum:
        with run.doing("vacuum"):
            run.removed += drop_old(lake, LEDGER, ledger.lock, ledger.handle)


def _compact(name: str, table: DeltaTable) -> int:
    """Join the files below SMALL_FILE_BYTES if there are at least COMPACT_FILES_MIN of them.

    Returns: how many files it joined.
    """
    sizes = table.get_add_actions(flatten=True)["size_bytes"].to_pylist()
    small = [size for size in sizes if size < SMALL_FILE_BYTES]
    if len(small) < COMPACT_FILES_MIN:
        return 0
    began = time.monotonic()
    table.optimize.compact(target_size=TARGET_FILE_BYTES, max_concurrent_tasks=1)
    log.debug("joined %d files of %s in %.2f s", len(small), name, time.monotonic() - began)
    return len(small)


def drop_old(
    lake: Lake,
    path: str,
    lock: threading.Lock,
    writers: Callable[[], DeltaTable],
    keep: TimeTravel = NOTHING,
) -> int:
    """Delete files and log entries that no version within the retention and no kept one needs.

    Listing and deleting hundreds of files takes seconds, and no writer waits for that: the lock is
    held only to ask the writer's own handle for the files of the newest version.

    Args:
        path: the table's path below the lake.
        writers: returns the writer's handle; called with the lock held.
        keep: which versions stay behind the retention (`kept_versions`).
    Returns: how many data files it deleted.
    """
    began, now = time.monotonic(), utc_now()
    table = lake.table(path)
    # `full` lists the bucket: a checkpoint of the log forgets the files that were removed before
    # the retention, so they would stay for ever.
    old = table.vacuum(dry_run=True, enforce_retention_duration=False, full=True)
    stored = listing(lake, path)
    with lock:
        # The files of a commit that took longer than the retention look old as soon as it is done.
        live = files_of(writers())

    def of_version(version: int) -> dict[str, int]:
        return files_of(lake.table(path, version))

    chosen = choose(stored, live, of_version, keep, window_of(table), now)
    files = DeltaStorageHandler(lake.url(path), lake.storage_options())
    deleted = [name for name in old if name not in live and name not in chosen.files]
    lake.fence()  # another driver's files were not there yet when the folder was listed
    # The log comes first: a version that can be opened has its files.
    for name in (*chosen.log_names, *deleted):
        files.delete_file(name)
    table.update_incremental()
    table.create_checkpoint()
    write_note(lake, path, stored, live, chosen, deleted, keep, now)
    log.debug("deleted %d files of %s in %.2f s", len(deleted), path, time.monotonic() - began)
    return len(deleted)

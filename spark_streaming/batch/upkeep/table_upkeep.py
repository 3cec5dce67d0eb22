"""The maintenance of one table, in small pieces of work: join files, write a checkpoint, remove what is old.

Each function is a generator. Between two pieces it holds no lock and may wait for any time, or be
dropped. A merge of a table of silver waits for one put of a log entry at most: files are joined, and the folder listed
and cleaned, without the table's lock. Tables of `ops`, which are small, are joined with their lock held.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Protocol

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from spark_streaming.batch.upkeep.table_need import Need, Steps
from spark_streaming.contract.contract_files import TimeTravel
from spark_streaming.ops.ledger import Ledger
from spark_streaming.storage.lake import LEDGER, Lake
from spark_streaming.storage.log_checkpoint import write_checkpoint
from spark_streaming.tables.data_files import TARGET_FILE_BYTES
from spark_streaming.tables.joined_files import Joined, join_small_files, small_files
from spark_streaming.tables.kept_versions import (
    NOTHING,
    choose,
    file_sizes,
    listing,
    utc_now,
    window_of,
    write_note,
)
from spark_streaming.tables.log_writer import may_join

log = logging.getLogger(__name__)
LEDGER_KEPT = timedelta(hours=1)


class Maintained(Protocol):
    """A table that one process writes to: silver's, or a history."""

    lake: Lake
    name: str
    path: str
    lock: threading.Lock

    def handle(self) -> DeltaTable: ...

    def joined(self, done: Joined) -> None: ...


class OpsTable(Protocol):
    """A table of `ops` that batches append to; `prune` deletes rows that are too old."""

    lock: threading.Lock
    path: str

    def ensure(self) -> DeltaTable: ...

    def prune(self) -> None: ...


@dataclass
class Run:
    """One run of maintenance for a table: its finished steps, how many files they changed, and for how long
    at most it held a lock that a batch may have waited for."""

    step: str = ""
    done: set[str] = field(default_factory=set)
    joined: int = 0
    removed: int = 0
    held_s: float = 0.0

    @contextmanager
    def doing(self, step: str) -> Iterator[None]:
        """Note `step` as begun, and as done unless the block raises."""
        self.step = step
        yield
        self.done.add(step)

    @contextmanager
    def holding(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock, and measure for how long."""
        with lock:
            began = time.monotonic()
            yield
            self.held_s = max(self.held_s, time.monotonic() - began)


def maintain_table(
    table: Maintained,
    steps: Steps,
    run: Run | None = None,
    keep: Callable[[], TimeTravel] = lambda: NOTHING,
) -> Iterator[None]:
    """Take these steps for a table."""
    run = run or Run()
    if steps.join:
        with run.doing("compact"):
            yield from _join(table, run)
    if steps.checkpoint:
        with run.doing("checkpoint"):
            write_checkpoint(table.lake, table.path)
        yield
    if steps.clean:
        with run.doing("vacuum"):
            yield from _cleaning(table.lake, table.path, table.lock, table.handle, run, keep())


def maintain_ops(
    lake: Lake,
    table: OpsTable,
    run: Run | None = None,
    need: Need | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Prune and clean a table that only some batches write to; `need`: nothing, if it has not changed since."""
    run = run or Run()
    if need is not None and not need.has_new(table.ensure().version(), clock()):
        return
    with run.doing("compact"), run.holding(table.lock):
        table.prune()
        run.joined += compact(table.path, table.ensure())
    yield
    with run.doing("vacuum"):
        yield from _cleaning(lake, table.path, table.lock, table.ensure, run)


def maintain_ledger(lake: Lake, ledger: Ledger, steps: Steps, run: Run) -> Iterator[None]:
    """Take these steps for the ledger."""
    if steps.join:
        with run.doing("compact"):
            ledger.compact(datetime.now(timezone.utc) - LEDGER_KEPT)
        yield
    if steps.checkpoint:
        with run.doing("checkpoint"):
            write_checkpoint(lake, LEDGER)
        yield
    if steps.clean:
        with run.doing("vacuum"):
            yield from _cleaning(lake, LEDGER, ledger.lock, ledger.handle, run)


def drop_old(
    lake: Lake,
    path: str,
    lock: threading.Lock,
    writers: Callable[[], DeltaTable],
    keep: TimeTravel = NOTHING,
) -> int:
    """Delete files and log entries that no version within the retention and no kept one needs.

    Args:
        path: the table's path below the lake.
        writers: returns the writer's handle; called with the lock held.
        keep: which versions stay behind the retention (`kept_versions`).
    Returns: how many data files it deleted.
    """
    run = Run()
    finish(_cleaning(lake, path, lock, writers, run, keep))
    return run.removed


def finish(work: Iterator[None]) -> None:
    """Do all pieces of a work."""
    for _ in work:
        pass


def _cleaning(
    lake: Lake,
    path: str,
    lock: threading.Lock,
    writers: Callable[[], DeltaTable],
    run: Run,
    keep: TimeTravel = NOTHING,
) -> Iterator[None]:
    # Listing and deleting hundreds of files takes seconds, and no writer waits for that.
    now = utc_now()
    try:
        table = lake.table(path)
    except TableNotFoundError:
        return  # removed with its folder
    # First, so that a table which has gone quiet needs none of its older log entries.
    write_checkpoint(lake, path)
    # `full` lists the bucket: a checkpoint of the log forgets the files that were removed before
    # the retention, so they would stay for ever.
    old = table.vacuum(dry_run=True, enforce_retention_duration=False, full=True)
    yield
    stored = listing(lake, path)
    with run.holding(lock):
        # The files of a commit that took longer than the retention look old as soon as it is done.
        live = file_sizes(writers())

    def of_version(version: int) -> dict[str, int]:
        return file_sizes(lake.table(path, version))

    chosen = choose(stored, live, of_version, keep, window_of(table), now)
    files = DeltaStorageHandler(lake.url(path), lake.storage_options())
    deleted = [name for name in old if name not in live and name not in chosen.files]
    lake.fence()  # another driver's files were not there yet when the folder was listed
    # The log comes first: a version that can be opened has its files.
    for name in (*chosen.log_names, *deleted):
        files.delete_file(name)
        yield
    run.removed += len(deleted)
    write_note(lake, path, stored, live, chosen, deleted, keep, now)
    log.debug("deleted %d files of %s", len(deleted), path)


def _join(table: Maintained, run: Run) -> Iterator[None]:
    """Join small files, some of them at a time, until there are few, or a merge replaced one of them."""
    while True:
        try:
            own = table.lake.table(table.path)
        except TableNotFoundError:
            return  # removed with its folder
        if not small_files(own):
            return
        if not may_join(own):  # it has partitions
            with run.holding(table.lock):
                run.joined += compact(table.name, table.handle())
            return
        held = run.holding(table.lock)
        done = join_small_files(table.lake, table.path, own, held, table.joined)
        if done is None:
            return
        run.joined += len(done.removed)
        yield


def compact(name: str, table: DeltaTable) -> int:
    """Join all small files in one commit of delta-rs, with the writer's lock held. Returns: how many."""
    small = small_files(table)
    if small:
        began = time.monotonic()
        table.optimize.compact(target_size=TARGET_FILE_BYTES, max_concurrent_tasks=1)
        log.debug("joined %d files of %s in %.2f s", len(small), name, time.monotonic() - began)
    return len(small)

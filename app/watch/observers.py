"""Observes changes at bronze, silver and Trino, each in a thread so that none waits for another.

An observer polls while a change waits for its hop, and rests otherwise. The time of an observation
is the end of the poll, so it is an upper bound.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone

import trino.exceptions
from deltalake.exceptions import DeltaError, TableNotFoundError

from app.environment.settings import Settings
from app.lake.lakehouse import (
    LEDGER_COLUMNS,
    Lakehouse,
    LedgerEntry,
    ledger_entry,
    newest_entries,
)
from app.lake.table_follower import Follower
from app.query.trino_connection import connect
from app.watch.bronze_ends import BronzeEnds
from app.watch.flow import Change, Pending
from spark_streaming.storage.lake import LEDGER

log = logging.getLogger(__name__)
POLL_S = 0.03
REST_S = 0.02
REST_S_MAX = 0.5
AGAIN_S = 1.0
# The ledger is read from this long before a change's commit, because two machines' clocks differ.
LEDGER_BACK = timedelta(seconds=15)
BACK_S_MAX = 300.0
# Even a source at rest causes a batch every few seconds. If the ledger shows no commit for this
# long, # it was not polled or was made again, and a commit with the expected next name may never
# come.
ANEW_S = 20.0
# Trino shows times in milliseconds.
TRINO_ROUNDS = timedelta(milliseconds=1)


class Observer:
    """Observes one hop; `poll` marks the changes that the hop has."""

    hop: str

    def poll(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close open connections; most observers have none."""


class Bronze(Observer):
    """Finds the objects that hold the waiting changes, partition by partition."""

    hop = "bronze"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._ends = BronzeEnds(settings)
        self._pending = pending

    def poll(self) -> None:
        waiting: dict[str, list[Change]] = {}
        for change in self._pending.waiting(self.hop):
            folder = f"{change.topic}/partition={change.partition}"
            waiting.setdefault(folder, []).append(change)
        for folder, changes in waiting.items():
            objects = self._ends.objects_of(folder, {change.offset for change in changes})
            for change in changes:
                if change.offset in objects:
                    self._pending.mark(change, self.hop, objects[change.offset])


class Silver(Observer):
    """Follows the ledger, in which each batch records its merged offsets."""

    hop = "silver"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._lake = Lakehouse(settings)
        self._pending = pending
        self._ledger: Follower | None = None
        self._changed_at = 0.0
        self._merged: dict[str, LedgerEntry] = {}

    def poll(self) -> None:
        waiting = self._pending.waiting(self.hop)
        try:
            self._read(waiting)
        except TableNotFoundError:
            return  # before the first batch
        except (DeltaError, OSError):  # its files were just compacted away
            self._ledger = None
            return
        for change in waiting:
            entry = self._merged.get(change.table)
            if entry is not None and covers(entry, change):
                change.merged_at = entry.merged_at
                self._pending.mark(change, self.hop, batch_text(entry))

    def _read(self, waiting: list[Change]) -> None:
        now = time.monotonic()
        if self._ledger is None or now - self._changed_at > ANEW_S:
            table = self._lake.lake.table(LEDGER)
            since = _oldest(waiting) - LEDGER_BACK
            self._merged.update(self._lake.ledger(since, table))
            self._ledger = Follower(
                self._lake.lake, LEDGER, LEDGER_COLUMNS, version=table.version()
            )
            self._changed_at = now
        rows, _ = self._ledger.poll()
        if rows is not None:
            self._merged.update(newest_entries(rows))
            self._changed_at = now


class Trino(Observer):
    """Queries the ledger in Trino: if Trino shows a batch there, it shows it in the tables too.

    Only changes that silver has are queried, all tables at once, and no further back than the first
    of their batches. Each batch is a file of the ledger with its time in the statistics, so Trino
    opens only those few files.
    """

    hop = "trino"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._connection = connect(settings.trino_url)
        self._pending = pending

    def close(self) -> None:
        self._connection.close()

    def poll(self) -> None:
        waiting = self._pending.waiting(self.hop)
        shown = self._query(waiting)
        for change in waiting:
            entry = shown.get(change.table)
            if entry is not None and covers(entry, change):
                self._pending.mark(change, self.hop, batch_text(entry))

    def _query(self, waiting: list[Change]) -> dict[str, LedgerEntry]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(query_of(waiting))
            rows = cursor.fetchall()
        except trino.exceptions.TrinoUserError:
            return {}  # the ledger is not registered yet
        names = [column[0] for column in cursor.description or ()]
        entries = [ledger_entry(dict(zip(names, row, strict=True))) for row in rows]
        return {entry.table: entry for entry in sorted(entries, key=lambda one: one.merged_at)}


def query_of(waiting: list[Change]) -> str:
    """Return the SQL for the ledger's rows that can hold these changes, which silver has."""
    since = min(change.merged_at for change in waiting if change.merged_at) - TRINO_ROUNDS
    # The literal has milliseconds, like the column in Trino: with a finer one Trino would cast the
    # column and open every file of the ledger.
    moment = since.isoformat(sep=" ", timespec="milliseconds").partition("+")[0]
    return (
        "SELECT table_name, batch_id, delta_version, offsets, complete_lsn, merged_at "
        f"FROM ops.ledger WHERE merged_at >= TIMESTAMP '{moment} UTC'"
    )


OBSERVERS: tuple[Callable[[Settings, Pending], Observer], ...] = (Bronze, Silver, Trino)


@contextmanager
def observing(settings: Settings, pending: Pending, note: Callable[[str], None]) -> Iterator[None]:
    """Observe the hops after Kafka during the context.

    Args:
        note: prints an error of a hop, which is then polled again.
    """
    stop = threading.Event()
    with ExitStack() as opened:
        observers = [opens(settings, pending) for opens in OBSERVERS]
        for observer in observers:
            opened.callback(observer.close)
        threads = [
            threading.Thread(
                target=_observe,
                args=(observer, pending, stop, note),
                name=observer.hop,
                daemon=True,
            )
            for observer in observers
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=2)


def _observe(
    observer: Observer, pending: Pending, stop: threading.Event, note: Callable[[str], None]
) -> None:
    failed = ""
    while not stop.is_set():
        if not pending.waiting(observer.hop):
            stop.wait(REST_S)
            continue
        began = time.monotonic()
        try:
            observer.poll()
        except Exception as error:  # noted, then polled again; the other observers go on
            log.debug("%s", observer.hop, exc_info=True)
            text = f"{observer.hop} does not answer: {type(error).__name__}"
            if text != failed and not stop.is_set():
                failed = text
                note(text)
            stop.wait(AGAIN_S)
        else:
            failed = ""
            stop.wait(rest_s(time.monotonic() - began))


def rest_s(took_s: float) -> float:
    """Return how long to rest after a poll: half as long as it took, within limits.

    Some change is nearly always waiting. Polls without a rest would take the CPU that Trino and the
    object store need, above all when they are slow already.
    """
    return min(max(POLL_S, took_s / 2), REST_S_MAX)


def covers(entry: LedgerEntry, change: Change) -> bool:
    """Check whether a batch has merged a change."""
    return entry.offsets.get(change.topic, {}).get(change.partition, 0) > change.offset


def batch_text(entry: LedgerEntry) -> str:
    """Describe a batch in a few words."""
    version = "" if entry.delta_version is None else f", version {entry.delta_version}"
    return f"batch {entry.batch_id}{version}"


def _oldest(changes: list[Change]) -> datetime:
    """Return the earliest time of a batch with the first of the changes: the change's commit.

    On a busy machine silver may merge a change long before this process reads it. The source's
    clock can be wrong, so the time is at most BACK_S_MAX before that read.
    """
    now = time.time()
    since = (max(min(one.committed_at, one.arrived), one.arrived - BACK_S_MAX) for one in changes)
    return datetime.fromtimestamp(min(since, default=now), timezone.utc)

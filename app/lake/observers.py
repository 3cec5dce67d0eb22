"""Who sees a change at bronze, at silver and in Trino: each in a thread, so that none waits for another.

Each looks again and again while a change waits for its hop, and rests otherwise. What is told is
the moment at which the look came back: an upper bound.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import trino.exceptions
from deltalake.exceptions import DeltaError, TableNotFoundError

from app.follow import Follower
from app.lake.bronze_ends import BronzeEnds
from app.lake.connection import connect
from app.lake.flow import Change, Pending
from app.lake.lakehouse import (
    LEDGER_COLUMNS,
    Lakehouse,
    LedgerEntry,
    ledger_entry,
    newest_entries,
)
from app.settings import Settings
from spark_streaming.lake import LEDGER

log = logging.getLogger(__name__)
POLL_S = 0.03
REST_S = 0.02
REST_S_MAX = 0.5
AGAIN_S = 1.0
# How far back the ledger is read before a change's commit: clocks of two machines.
LEDGER_BACK = timedelta(seconds=15)
EARLIER_S = 300.0
# A source at rest brings a batch every few seconds: a ledger that is silent for so long was not
# looked at, or has begun anew, and its next commit may never come by the name that is awaited.
ANEW_S = 20.0
# Trino shows times in milliseconds.
TRINO_ROUNDS = timedelta(milliseconds=1)


class Bronze:
    """Looks for the objects that hold what waits, partition by partition."""

    hop = "bronze"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._ends = BronzeEnds(settings)
        self._pending = pending

    def look(self) -> None:
        waiting: dict[str, list[Change]] = {}
        for change in self._pending.waiting(self.hop):
            folder = f"{change.topic}/partition={change.partition}"
            waiting.setdefault(folder, []).append(change)
        for folder, changes in waiting.items():
            landed = self._ends.look(folder, {change.offset for change in changes})
            for change in changes:
                if change.offset in landed:
                    self._pending.mark(change, self.hop, landed[change.offset])


class Silver:
    """Follows the ledger, in which each batch says how far it came."""

    hop = "silver"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._lake = Lakehouse(settings)
        self._pending = pending
        self._ledger: Follower | None = None
        self._heard = 0.0
        self._merged: dict[str, LedgerEntry] = {}

    def look(self) -> None:
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
                self._pending.mark(change, self.hop, told(entry))

    def _read(self, waiting: list[Change]) -> None:
        now = time.monotonic()
        if self._ledger is None or now - self._heard > ANEW_S:
            table = self._lake.lake.table(LEDGER)
            since = _oldest(waiting) - LEDGER_BACK
            self._merged.update(self._lake.ledger(since, table))
            self._ledger = Follower(
                self._lake.lake, LEDGER, LEDGER_COLUMNS, version=table.version()
            )
            self._heard = now
        rows, _ = self._ledger.poll()
        if rows is not None:
            self._merged.update(newest_entries(rows))
            self._heard = now


class Trino:
    """Asks Trino for the ledger: what it shows there, it shows in the tables too.

    It is asked about what silver has, for it has no more: one question about all tables, and no
    further back than the first of the batches in question. Each batch is a file of the ledger,
    whose statistics name its time, so that Trino opens those few only.
    """

    hop = "trino"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._connection = connect(settings.trino_url)
        self._pending = pending

    def close(self) -> None:
        self._connection.close()

    def look(self) -> None:
        waiting = self._pending.waiting(self.hop)
        shown = self._ask(waiting)
        for change in waiting:
            entry = shown.get(change.table)
            if entry is not None and covers(entry, change):
                self._pending.mark(change, self.hop, told(entry))

    def _ask(self, waiting: list[Change]) -> dict[str, LedgerEntry]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(question(waiting))
            found = cursor.fetchall()
        except trino.exceptions.TrinoUserError:
            return {}  # the ledger is not registered yet
        names = [column[0] for column in cursor.description or ()]
        entries = [ledger_entry(dict(zip(names, row, strict=True))) for row in found]
        return {entry.table: entry for entry in sorted(entries, key=lambda one: one.merged_at)}


def question(waiting: list[Change]) -> str:
    """What Trino is asked: the ledger's rows that can hold these changes, which silver has."""
    since = min(change.merged_at for change in waiting if change.merged_at) - TRINO_ROUNDS
    # In milliseconds, as Trino types the column: beside a finer time it would compare the column
    # made finer, and open each file of the ledger for it.
    moment = since.isoformat(sep=" ", timespec="milliseconds").partition("+")[0]
    return (
        "SELECT table_name, batch_id, delta_version, offsets, complete_lsn, merged_at "
        f"FROM ops.ledger WHERE merged_at >= TIMESTAMP '{moment} UTC'"
    )


@contextmanager
def observing(settings: Settings, pending: Pending, note: Callable[[str], None]) -> Iterator[None]:
    """Observe the hops behind Kafka meanwhile.

    note: takes what went wrong with a hop; it is looked at again.
    """
    stop = threading.Event()
    with closing(Trino(settings, pending)) as asked:
        observers: list[Any] = [Bronze(settings, pending), Silver(settings, pending), asked]
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
    observer: Any, pending: Pending, stop: threading.Event, note: Callable[[str], None]
) -> None:
    failed = ""
    while not stop.is_set():
        if not pending.waiting(observer.hop):
            stop.wait(REST_S)
            continue
        began = time.monotonic()
        try:
            observer.look()
        except Exception as error:  # told, and looked again: the others go on
            log.debug("%s", observer.hop, exc_info=True)
            words = f"{observer.hop} does not answer: {type(error).__name__}"
            if words != failed and not stop.is_set():
                failed = words
                note(words)
            stop.wait(AGAIN_S)
        else:
            failed = ""
            stop.wait(rest_s(time.monotonic() - began))


def rest_s(took_s: float) -> float:
    """How long to rest after a look that took so long: half as long, within limits.

    Something is nearly always on its way. Looks without a rest took what Trino and the store need
    to be fast, most of all where they are slow already.
    """
    return min(max(POLL_S, took_s / 2), REST_S_MAX)


def covers(entry: LedgerEntry, change: Change) -> bool:
    """Whether what a batch says of a table holds a change."""
    return entry.offsets.get(change.topic, {}).get(change.partition, 0) > change.offset


def told(entry: LedgerEntry) -> str:
    """A batch in words."""
    version = "" if entry.delta_version is None else f", version {entry.delta_version}"
    return f"batch {entry.batch_id}{version}"


def _oldest(changes: list[Change]) -> datetime:
    """From when on a batch can hold the first of them: it was committed then.

    Silver may have it long before it is read here, where this machine is busy. The source's clock
    can be wrong: no more than EARLIER_S before it was read here is looked at.
    """
    now = time.time()
    since = (max(min(one.committed_at, one.arrived), one.arrived - EARLIER_S) for one in changes)
    return datetime.fromtimestamp(min(since, default=now), timezone.utc)

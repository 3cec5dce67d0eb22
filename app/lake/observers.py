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
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from app.lake import hops
from app.lake.connection import connect
from app.lake.flow import Change, Pending
from app.lake.lakehouse import Lakehouse, LedgerEntry, ledger_entry
from app.settings import Settings
from spark_streaming.lake import LEDGER

log = logging.getLogger(__name__)
POLL_S = 0.03
REST_S = 0.02
REST_S_MAX = 2.0
AGAIN_S = 1.0
# How far back the ledger is read before a change's commit: clocks of two machines.
LEDGER_BACK = timedelta(seconds=15)
EARLIER_S = 300.0


class Bronze:
    """Reads where the newest object of a partition ends."""

    hop = "bronze"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._files = Lakehouse(settings).bronze_files()
        self._pending = pending
        self._landed: dict[str, tuple[str, int]] = {}

    def look(self) -> None:
        waiting = self._pending.waiting(self.hop)
        for folder in dict.fromkeys(_folder(change) for change in waiting):
            path, end = self._end(folder)
            for change in waiting:
                if _folder(change) == folder and change.offset < end:
                    self._pending.mark(change, self.hop, path)

    def _end(self, folder: str) -> tuple[str, int]:
        newest = hops.last_object(self._files, folder)
        if newest is None:
            return "", 0
        if self._landed.get(folder, ("", 0))[0] != newest:
            self._landed[folder] = (newest, hops.last_offset(self._files, newest) + 1)
        return self._landed[folder]


class Silver:
    """Reads the ledger, in which each batch says how far it came."""

    hop = "silver"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._lake = Lakehouse(settings)
        self._pending = pending
        self._table: DeltaTable | None = None
        self._merged: dict[str, LedgerEntry] = {}

    def look(self) -> None:
        waiting = self._pending.waiting(self.hop)
        try:
            self._read(waiting)
        except TableNotFoundError:
            return  # before the first batch
        except (DeltaError, OSError):  # its files were just compacted away
            self._table = None
            return
        for change in waiting:
            entry = self._merged.get(change.table)
            if covers(entry, change):
                self._pending.mark(change, self.hop, told(entry))

    def _read(self, waiting: list[Change]) -> None:
        if self._table is None:
            self._table, version = self._lake.lake.table(LEDGER), -1
        else:
            version = self._table.version()
            self._table.update_incremental()
        if self._table.version() != version:
            since = _oldest(waiting) - LEDGER_BACK
            self._merged.update(self._lake.ledger(since, self._table))


class Trino:
    """Asks Trino for the ledger: what it shows there, it shows in the tables too.

    It is asked about what silver has, for it has no more.
    """

    hop = "trino"

    def __init__(self, settings: Settings, pending: Pending) -> None:
        self._connection = connect(settings.trino_url)
        self._pending = pending

    def close(self) -> None:
        self._connection.close()

    def look(self) -> None:
        waiting = self._pending.waiting(self.hop)
        shown = self._ask(_oldest(waiting) - LEDGER_BACK)
        for change in waiting:
            entry = shown.get(change.table)
            if covers(entry, change):
                self._pending.mark(change, self.hop, told(entry))

    def _ask(self, since: datetime) -> dict[str, LedgerEntry]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(
                "SELECT table_name, batch_id, delta_version, offsets, complete_lsn, merged_at "
                f"FROM ops.ledger WHERE merged_at > TIMESTAMP '{since:%Y-%m-%d %H:%M:%S.%f} UTC' "
                "ORDER BY merged_at"
            )
            found = cursor.fetchall()
        except trino.exceptions.TrinoUserError:
            return {}  # the ledger is not registered yet
        names = [column[0] for column in cursor.description or ()]
        return {row[0]: ledger_entry(dict(zip(names, row, strict=True))) for row in found}


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
    """How long to rest after a look that took so long: as long, within limits.

    Something is nearly always on its way. Looks without a rest took what Trino and the store need
    to be fast, most of all where they are slow already.
    """
    return min(max(POLL_S, took_s), REST_S_MAX)


def covers(entry: LedgerEntry | None, change: Change) -> bool:
    """Whether what a batch says of a table holds a change."""
    if entry is None:
        return False
    return entry.offsets.get(change.topic, {}).get(change.partition, 0) > change.offset


def told(entry: LedgerEntry | None) -> str:
    """A batch in words."""
    if entry is None:
        return ""
    version = "" if entry.delta_version is None else f", version {entry.delta_version}"
    return f"batch {entry.batch_id}{version}"


def _folder(change: Change) -> str:
    return f"{change.topic}/partition={change.partition}"


def _oldest(changes: list[Change]) -> datetime:
    """From when on a batch can hold the first of them: it was committed then.

    Silver may have it long before it is read here, where this machine is busy. The source's clock
    can be wrong: no more than EARLIER_S before it was read here is looked at.
    """
    now = time.time()
    since = (max(min(one.committed_at, one.arrived), one.arrived - EARLIER_S) for one in changes)
    return datetime.fromtimestamp(min(since, default=now), timezone.utc)

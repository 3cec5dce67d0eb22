"""How far silver is behind the source, read from the ledger commit by commit, and what bronze holds."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pyarrow.fs as pa_fs

from app.lake.lakehouse import Lakehouse
from app.lake.table_follower import Follower
from spark_streaming.ops.ledger import WHOLE_BATCH
from spark_streaming.ops.whole_batches import COLUMNS, WholeBatches
from spark_streaming.storage.lake import LEDGER
from tests.support.stack import Stack
from tests.support.waiting import until

LOOK_S = 0.25
_COLUMNS = ["table_name", "merged_at", "complete_lsn", *COLUMNS]


class SilverEnd:
    """The LSN up to which silver is complete; each question reads only the ledger's new commits."""

    def __init__(self, stack: Stack) -> None:
        self._ledger = Follower(Lakehouse(stack.settings).lake, LEDGER, _COLUMNS)
        self._batches = WholeBatches()

    def lsn(self) -> int:
        """The LSN now; 0 before the first batch."""
        rows, whole = self._ledger.poll()
        if whole:
            self._batches = WholeBatches()
        if rows is not None:
            for row in rows.sort_by("merged_at").to_pylist():
                if row["table_name"] == WHOLE_BATCH:
                    self._batches.add(row)
        return int(self._batches.complete_lsn or 0)


def await_silver(stack: Stack, *, within_s: float) -> float:
    """Wait until silver has all that is committed now. Returns: the seconds that it took."""
    began = time.monotonic()
    with psycopg.connect(stack.settings.source_dsn, autocommit=True) as source:
        end = wal_end(source)
        # A change behind it, because a source at rest is heard of every 5 s only.
        source.execute("UPDATE movies SET tagline = tagline WHERE movie_id = 1")
    until(
        SilverEnd(stack).lsn,
        lambda lsn: lsn >= end,
        within_s=within_s,
        what="silver complete",
        every_s=LOOK_S,
    )
    return time.monotonic() - began


def wal_end(source: psycopg.Connection[tuple[object, ...]]) -> int:
    """The end of the source's WAL in bytes."""
    row = source.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(str(row[0]))


@contextmanager
def lags(stack: Stack) -> Iterator[list[float]]:
    """Silver's lag in seconds, every LOOK_S during the block: the age of the WAL's end that silver has."""
    found: list[float] = []
    stop = threading.Event()
    failures: list[Exception] = []

    def sample() -> None:
        times: list[float] = []
        ends: list[int] = []
        silver = SilverEnd(stack)
        with psycopg.connect(stack.settings.source_dsn, autocommit=True) as source:
            while not stop.wait(LOOK_S):
                times.append(time.monotonic())
                ends.append(wal_end(source))
                # The newest time at which the source was not further than silver is now.
                at = bisect.bisect_right(ends, silver.lsn()) - 1
                if at >= 0:
                    found.append(time.monotonic() - times[at])

    def guarded() -> None:
        try:
            sample()
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(timeout=30)
    if failures:
        raise failures[0]


def bronze_bytes(stack: Stack, topic: str) -> int:
    """The compressed size of all objects of `topic` in bronze."""
    files = Lakehouse(stack.settings).bronze_files()
    selector = pa_fs.FileSelector(topic, recursive=True, allow_not_found=True)
    return sum(info.size or 0 for info in files.get_file_info(selector))

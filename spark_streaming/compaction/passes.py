"""Packs all partitions of bronze in turn, within limits of time and bytes; the job `silver` does so in a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.compaction.compactor import PACKED, Compactor, Done
from spark_streaming.compaction.packing import DamagedError, Limits
from spark_streaming.ops.erase_requests import planned_topics
from spark_streaming.ops.job_metrics import MaintenanceMetrics
from spark_streaming.reading.bronze_names import PARTITION
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import ObjectStore

log = logging.getLogger(__name__)
NAME = "bronze"
PAUSE_S = 600.0
# A twentieth of the time at most.
PASS_S_MAX = 30.0
PASS_BYTES_MAX = 256 << 20
DAY_S = 86_400.0
TROUBLES_LOGGED = 5


@dataclass(frozen=True)
class Budget:
    """What one pass may take: seconds, and stored bytes that it packs."""

    seconds: float = PASS_S_MAX
    stored_bytes: int = PASS_BYTES_MAX


class Passes:
    """Packs a bucket's partitions; a pass continues where the last one ended.

    Args:
        prefix: of the topics.
        planned: returns the topics with an unfinished erasure.
        keep_days: packed objects older than this are deleted; 0: none.
    """

    def __init__(
        self,
        store: BronzeStore,
        prefix: str,
        planned: Callable[[], Collection[str]],
        *,
        limits: Limits | None = None,
        keep_days: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._planned = planned
        self._limits = limits or Limits()
        self._keep_days = keep_days
        self._clock = clock
        self._reached: tuple[str, int] = ("", -1)

    def run(
        self,
        budget: Budget,
        topics: Collection[str] = (),
        stop: Callable[[], bool] = lambda: False,
        tick: Callable[[str, Done], None] = lambda *_: None,
    ) -> Done:
        """Work on partition after partition until all are done or the budget is used up.

        Args:
            topics: only these; all of the prefix if empty.
            tick: called after each step with the partition and what is done so far.
        Returns: what was done. What one partition hinders is in its `troubles`; the others continue.
        Raises: OSError if the store does not answer.
        """
        done = Done()
        compactor = Compactor(self._store, self._planned, self._limits, done)
        now, limit = self._store.now(), self._clock() + budget.seconds
        for topic, partition in self._places(topics):

            def may_go_on() -> bool:
                return (
                    self._clock() < limit and done.bytes_before < budget.stored_bytes and not stop()
                )

            try:
                while may_go_on() and compactor.pack(topic, partition, now) == PACKED:
                    tick(f"{topic} partition {partition}", done)
                if may_go_on():
                    compactor.drop_packed(topic, partition, now)
                if self._keep_days and may_go_on():
                    compactor.expire(topic, partition, now - self._keep_days * DAY_S)
            except (DamagedError, ValueError) as error:
                done.troubles.append(str(error))
            if not may_go_on():
                break
            self._reached = (topic, partition)
        return done

    def _places(self, topics: Collection[str]) -> list[tuple[str, int]]:
        """Return the partitions, those behind the last one of the pass before first."""
        names = [name for name in self._store.folders("") if name.startswith(f"{self._prefix}.")]
        places = sorted(
            (topic, int(path.rsplit(PARTITION, 1)[1]))
            for topic in names
            if not topics or topic in topics
            for path in self._store.folders(topic)
            if PARTITION in path
        )
        return [p for p in places if p > self._reached] + [p for p in places if p <= self._reached]


class PackingThread:
    """Runs a pass every PAUSE_S seconds beside the batches."""

    def __init__(
        self,
        store: ObjectStore,
        lake: Lake,
        prefix: str,
        keep_days: int,
        metrics: MaintenanceMetrics,
    ) -> None:
        self._metrics = metrics
        self._stopping = threading.Event()
        files = lake.filesystem()
        bucket = BronzeStore(store)
        self._passes = Passes(bucket, prefix, lambda: planned_topics(files), keep_days=keep_days)
        self._thread = threading.Thread(target=self._run, name="bronze-packing", daemon=True)

    def start(self) -> None:
        """Begin; the first pass is due after a pause."""
        self._metrics.known(NAME)
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs; it may be interrupted at any point."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            began = time.monotonic()
            done = Done()
            try:
                done = self._passes.run(Budget(), stop=self._stopping.is_set)
            except Exception as error:  # noqa: BLE001 - no data depends on it; the next pass tries again
                done.troubles.append(f"{type(error).__name__}: {error}")
            for trouble in done.troubles[:TROUBLES_LOGGED]:
                log.warning("packing bronze: %s", trouble)
            failed = bool(done.troubles)
            if done.packed or done.deleted or done.expired or failed:
                log.info(
                    "packed %d objects of bronze into %d, deleted %d",
                    done.joined, done.packed, done.deleted + done.expired,
                )  # fmt: skip
                self._metrics.ended(
                    NAME,
                    time.monotonic() - began,
                    joined=done.joined,
                    removed=done.deleted + done.expired,
                    failed=failed,
                    failing=failed,
                )

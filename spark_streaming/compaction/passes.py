"""Packs all partitions of bronze in turn, within limits of time and bytes; the job `silver` does so in a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from spark_streaming.compaction.bronze_store import BronzeStore, DeniedError
from spark_streaming.compaction.compactor import PACKED, Compactor, Done
from spark_streaming.compaction.packing import DamagedError, Limits
from spark_streaming.job_settings import JobSettings
from spark_streaming.ops.erase_requests import planned_topics
from spark_streaming.ops.job_metrics import MaintenanceMetrics
from spark_streaming.reading.bronze_names import PARTITION
from spark_streaming.storage.lake import Lake

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
                return self._clock() < limit and done.bytes_before < budget.stored_bytes

            try:
                while may_go_on() and compactor.pack(topic, partition, now) == PACKED:
                    tick(f"{topic} partition {partition}", done)
                if may_go_on():
                    compactor.drop_packed(topic, partition, now, may_go_on)
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


def start_packing(settings: JobSettings, lake: Lake, metrics: MaintenanceMetrics) -> None:
    """Run a pass every PAUSE_S seconds in a thread, the first one after a pause. It may end with the process at any point."""
    metrics.known(NAME)
    passes = Passes(
        BronzeStore(settings.store),
        settings.topic_prefix,
        partial(planned_topics, lake.filesystem()),
        keep_days=settings.bronze_keep_days,
    )

    def run() -> None:
        while True:
            time.sleep(PAUSE_S)
            run_pass(passes, metrics)

    threading.Thread(target=run, name="bronze-packing", daemon=True).start()


def run_pass(passes: Passes, metrics: MaintenanceMetrics) -> None:
    """Make one pass; log and count what it did."""
    began, done = time.monotonic(), Done()
    try:
        done = passes.run(Budget())
    except DeniedError as error:
        # A bucket in which nothing may be replaced or deleted: somebody chose it so.
        log.warning("bronze stays as it is: the store does not allow to pack it (%s)", error)
    except Exception as error:  # noqa: BLE001 - no data depends on it; the next pass tries again
        done.troubles.append(f"{type(error).__name__}: {error}")
    for trouble in done.troubles[:TROUBLES_LOGGED]:
        log.warning("packing bronze: %s", trouble)
    failed, removed = bool(done.troubles), done.deleted + done.expired
    if done.packed or removed:
        log.info(
            "packed %d objects of bronze into %d, deleted %d", done.joined, done.packed, removed
        )
    metrics.ended(
        NAME,
        time.monotonic() - began,
        joined=done.joined,
        removed=removed,
        failed=failed,
        failing=failed,
    )

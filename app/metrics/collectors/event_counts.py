"""Checks that bronze has each transaction's events, by counting some objects at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from app.counts.barrier import PendingBarrier
from app.counts.count_reader import Counting
from app.counts.count_report import KINDS, RequestResync, message, open_incidents
from app.counts.keeping import Keeper, State
from app.counts.tally import Miscount
from app.metrics.board import Board
from app.metrics.collectors.carriage import Kafka
from spark_streaming.ops.incident_rows import OPEN
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.reading.bronze import Bronze
from spark_streaming.tables.silver_names import SilverNames

log = logging.getLogger("metrics")
PERIOD_S, SOON_S = 5.0, 0.5
# The time limit of one call, because the other collectors wait for it.
COUNT_S = 0.3
SAVE_EVERY_S = 60.0
MESSAGES_MAX = 10
RECORDED_WITHIN_S = 10.0


class CountsCollector:
    """Sets a barrier, waits until bronze has reached it, then counts up to it in several calls."""

    name = "counts"
    share = 0.01

    def __init__(
        self,
        kafka: Kafka,
        bronze: Bronze,
        prefix: str,
        keeper: Keeper,
        incidents: IncidentLog,
        resync: RequestResync,
        board: Board,
        names: SilverNames,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._kafka = kafka
        self._bronze = bronze
        self._prefix = prefix
        self._keeper = keeper
        self._incidents = incidents
        self._resync = resync
        self._board = board
        self._clock = clock
        self._waiting = PendingBarrier(prefix)
        self._state: State | None = None
        self._set_at: float | None = None
        self._whole_at: float | None = None
        self._run: Iterator[list[Miscount] | None] | None = None
        self._saved_at = clock()
        self._began_at = clock()

    @property
    def period_s(self) -> float:
        """Short while objects are left to read."""
        return PERIOD_S if self._run is None else SOON_S

    def collect(self) -> None:
        if self._state is None:
            self._state = self._keeper.load()
            self._incidents.refresh()
        state = self._state
        if self._run is None:
            self._run = self._begin(state)
        if self._run is not None:
            self._count(state, self._run)
        self._export(state)

    def _begin(self, state: State) -> Iterator[list[Miscount] | None] | None:
        """Begin the next pass, if bronze has reached the barrier."""
        admin = self._kafka.admin()
        if self._set_at is None:
            at = self._clock()
            if not self._waiting.set(self._kafka.consumer(), admin):
                return None
            self._set_at = at
        barrier = self._waiting.reached(admin)
        if barrier is None:
            return None
        return Counting(self._bronze, self._prefix, state.progress).run(barrier)

    def _count(self, state: State, run: Iterator[list[Miscount] | None]) -> None:
        until = self._clock() + COUNT_S
        for wrong in run:
            if wrong is not None:
                self._keep(state, wrong)
            if self._clock() > until:
                return
        self._run = None
        self._whole_at, self._set_at = self._set_at, None

    def _keep(self, state: State, wrong: Sequence[Miscount]) -> None:
        """Record a slice's differences as incidents, then save the progress."""
        if wrong:
            for one in wrong[:MESSAGES_MAX]:
                log.error("bronze: %s", message(one, self._prefix))
            if len(wrong) > MESSAGES_MAX:
                log.error("bronze: and %d more", len(wrong) - MESSAGES_MAX)
            open_incidents(wrong, self._prefix, self._incidents, self._resync)
            # Before the progress is saved, so that a crash in between finds the same differences again.
            if not self._incidents.flush(RECORDED_WITHIN_S):
                raise OSError("the object store does not accept the incident")
            state.note(wrong)
        if wrong or self._clock() - self._saved_at >= SAVE_EVERY_S:
            self._incidents.refresh()  # includes repairs made since
            self._keeper.save(state)
            self._saved_at = self._clock()

    def _export(self, state: State) -> None:
        board, tally = self._board, state.progress.tally
        board.set("headwater_transactions_checked", tally.checked)
        board.set("headwater_transactions_unproven", tally.unproven)
        counted = {"short": state.short, "surplus": state.surplus}
        board.replace("headwater_transactions_miscounted", {(k,): n for k, n in counted.items()})
        tables = {(self._table_of(topic),): 0.0 for topic, _ in state.progress.read}
        for kind in KINDS.values():
            for one in self._incidents.incidents(state=OPEN, kind=kind):
                for name in one.tables:
                    label = (self._table_of(f"{self._prefix}.{name}"),)
                    tables[label] = tables.get(label, 0.0) + 1
        board.replace("headwater_bronze_miscounted", tables)
        since = self._began_at if self._whole_at is None else self._whole_at
        board.set("headwater_transactions_unchecked_seconds", self._clock() - since)
        position = board.get("headwater_source_wal_position_bytes").get(())
        if position is not None and tally.ended:
            board.set("headwater_transactions_unchecked_bytes", max(0.0, position - tally.ended))

    def reset(self) -> None:
        """Go back to the saved progress: after a failure half a slice is in memory."""
        self._state = self._run = self._set_at = None
        self._kafka.close()

    def _table_of(self, topic: str) -> str:
        return self._names.of_topic(topic, self._prefix) or topic

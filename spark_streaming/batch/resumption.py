"""Stopped tables catch up inside the batches of the others, from where they stopped.

A stopped table's events are left out of the batches. When it is due, it reads them again from
Kafka, from the first that is not known to be merged up to where the batch ends, in slices:
1. Read the next events, as many as fit the driver; note in the ledger which of them the next
   merge takes, and the name of its commit.
2. Decode and fold them, quarantine the rejects that are not there yet, merge.
3. Continue with the next slice, for a limited time; at the batch's end the table runs again.

After a crash, or a failure that hides whether the commit went through, exactly the noted slice is
repeated: the table's log says by the commit's name whether it has it. No slice is computed again,
so no event is merged twice or left out, with or without a key.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from spark_streaming.batch.ledger_rows import only_version, stopped_row
from spark_streaming.batch.part import Merged, Stopped
from spark_streaming.batch.rebuild_state import Rebuild, rebuild_of
from spark_streaming.batch.swap import SwapFailedError, Swapped, Swaps
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger, LedgerRow, Restored
from spark_streaming.ops.stopped import (
    PartitionOffsets,
    Slice,
    Stop,
    TableStoppedError,
    backoff_s,
    first_offsets,
    next_slice,
    reason_of,
)
from spark_streaming.reading.expired_events import TooManyBytesError
from spark_streaming.reading.kafka_source import Read
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.tables.engine_protocol import MergeResult

log = logging.getLogger(__name__)
# Others wait for the batch's end meanwhile: a slice takes a second at most, and after two
# seconds the rest is left to the next batch.
SLICE_OFFSETS_MAX = 10_000
SLICE_BYTES_MAX = 64 << 20
SECONDS_MAX = 2.0
# How often a table that a rule stopped is checked for a changed contract.
CONTRACT_CHECK_S = 15.0
REQUEST_CHECK_S = 1.0


class Resumption:
    """The stopped tables of one query.

    Args:
        restored: what the ledger said at the start.
        read: gives the events of any span again.
        requested: takes the silver tables that an operator asked to resume.
        swaps: the tables that were built aside; None where there are none.
    """

    def __init__(
        self,
        steps: TableSteps,
        ledger: Ledger,
        restored: Restored,
        read: Read,
        *,
        requested: Callable[[], set[str]] = set,
        swaps: Swaps | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = steps
        self._topics = steps.topics
        self._ledger = ledger
        self._read = read
        self._requested = requested
        self._swaps = swaps
        self._clock = clock
        # Silver table → the rebuild that its rows come from.
        self._generations = dict(restored.generations)
        self._stops = {stop.topic: stop for stop in restored.stops}
        # A new process tries at once.
        self._due_at = dict.fromkeys(self._stops, 0.0)
        self._contracts: dict[str, str] = {}
        self._contract_checked_at: dict[str, float] = {}
        self._requests_checked_at = 0.0

    def is_stopped(self, topic: str) -> bool:
        """Whether this topic's table is stopped and its events wait."""
        return topic in self._stops

    def generation(self, table: str) -> str:
        """The rebuild that a silver table's rows come from; "" where it never was rebuilt."""
        return self._generations.get(table, "")

    def start_swaps(
        self, batch_id: int, span: BatchSpan, complete: tuple[Lsn | None, datetime | None]
    ) -> None:
        """Stop the tables whose rebuild waits for its swap; before the batch is read.

        Args:
            complete: the LSN and the source's time that tables are complete to.
        """
        for state in self._swaps.asked() if self._swaps is not None else ():
            try:
                self._start_swap(state, batch_id, span, complete)
            except Exception as error:  # noqa: BLE001 - the answer says it, and the batches continue
                assert self._swaps is not None
                self._swaps.refuse(state.id, reason_of(error))

    def _start_swap(
        self,
        state: Rebuild,
        batch_id: int,
        span: BatchSpan,
        complete: tuple[Lsn | None, datetime | None],
    ) -> None:
        assert self._swaps is not None
        known = self._stops.get(state.topic)
        if known is not None and rebuild_of(known.planned) == state.id:
            return  # under way
        if self.generation(state.table) == state.id:
            self._swaps.clean(state)
            return
        if state.topic not in span.end:
            raise SwapFailedError(f"the stream does not read topic {state.topic}")
        topic = self._swaps.topic_of(state)
        assert topic.silver is not None
        if known is None and self._steps.reached(topic, batch_id) > 0:
            return  # what silver has of this batch is not in the ledger yet: wait for the next one
        stop = known or Stop(
            state.topic,
            state.table,
            "",
            datetime.now(timezone.utc),
            first_offsets(span, state.topic, []),
            None,
            complete_lsn=complete[0],
            complete_time=complete[1],
            generation=self.generation(state.table),
        )
        stop = replace(
            stop,
            reason="it is being rebuilt from bronze",
            planned=state.swap(stop.offsets),
            attempts=0,
            on_purpose=False,
        )
        # Before anything else: whatever happens now, the table continues with this step.
        self._ledger.note([self._planned_row(batch_id, stop, Merged.nothing(topic))])
        log.info("table %s is being rebuilt: its changes wait meanwhile", state.table)
        self._stops[stop.topic] = stop
        self._due_at[stop.topic] = 0.0

    def stop(self, stop: Stop, error: BaseException) -> Stop:
        """Stop a table, or keep it stopped, after a failure."""
        stop = replace(
            stop, reason=reason_of(error), on_purpose=isinstance(error, TableStoppedError)
        )
        pause = backoff_s(stop.attempts, error)
        if stop.attempts == 1:
            log.error(
                "table %s is stopped, the others go on\n  detail: %s\n"
                "  hint: it is tried again in %.0f s and then less often; after mending the cause,"
                " `headwater resume %s` tries at once. State: SELECT * FROM ops.freshness",
                stop.table,
                stop.reason,
                pause,
                stop.table,
            )
        else:
            log.warning(
                "table %s is still stopped (try %d, the next in %.0f s): %s",
                stop.table,
                stop.attempts,
                pause,
                stop.reason,
            )
        self._stops[stop.topic] = stop
        now = self._clock()
        self._due_at[stop.topic] = now + pause
        self._contracts[stop.topic] = self._steps.contract_of(stop.topic)
        self._contract_checked_at[stop.topic] = now
        return stop

    def due(self, span: BatchSpan) -> list[Stop]:
        """The stopped tables to resume in the batch of this span."""
        if not self._stops:
            return []
        requested: set[str] = set()
        now = self._clock()
        if now - self._requests_checked_at >= REQUEST_CHECK_S:
            self._requests_checked_at = now
            requested = self._requested()
        return [
            stop
            for stop in self._stops.values()
            if stop.topic in span.end
            and (
                now >= self._due_at[stop.topic]
                or stop.table in requested
                or (stop.on_purpose and self._contract_changed(stop.topic, now))
            )
        ]

    def resume(self, stop: Stop, batch_id: int, span: BatchSpan) -> Merged | Stopped:
        """Merge what a stopped table has missed, up to the span's end if time allows.

        Returns: what was done; `Merged` where the table runs again.
        """
        done = Merged.nothing(self._topics.named(stop.topic, []))
        limit, end = self._clock() + SECONDS_MAX, span.end[stop.topic]
        try:
            if rebuild_of(stop.planned) is None:
                self._topics.refuse_dropped(stop.topic)
            while self._clock() <= limit or not _has_more(stop, end):
                stop, piece, events = self._next_piece(stop, end)
                if piece is None:
                    return self._runs_again(stop, done)
                rebuild_id = rebuild_of(stop.planned)
                if rebuild_id is not None:
                    swapped = self._swap(stop.table, rebuild_id, piece)
                    if swapped is None:
                        break
                    stop, done = self._rebuilt(stop, piece, swapped)
                    continue
                if stop.planned is None:
                    stop = replace(stop, planned=piece)
                    self._ledger.note([self._planned_row(batch_id, stop, done)])
                done = done.followed_by(self._take(stop, piece, events))
                stop = replace(stop, offsets=piece.end, planned=None, attempts=0)
            return self._still_resuming(stop, done)
        except Exception as error:  # whatever it is, only this table waits for it
            log.debug("resuming %s failed", stop.table, exc_info=True)
            return Stopped(done, self.stop(replace(stop, attempts=stop.attempts + 1), error))

    def _next_piece(
        self, stop: Stop, end: PartitionOffsets
    ) -> tuple[Stop, Slice | None, list[RawEvent]]:
        """What the table merges next: the merge that was begun, or the next slice."""
        piece, events = self._planned(stop)
        if piece is not None:
            return stop, piece, events
        stop = replace(stop, planned=None)
        return stop, *self._next(self._app_id(stop), stop.topic, stop.offsets, end)

    def _app_id(self, stop: Stop) -> str:
        """The id of a table's slices. A rebuilt table needs a new one, because it starts at offsets
        that its log may know already: transaction ids survive an overwrite."""
        name = f"headwater:{self._steps.query_id}:{stop.table}:resume"
        return f"{name}:{stop.generation}" if stop.generation else name

    def _planned_row(self, batch_id: int, stop: Stop, done: Merged) -> LedgerRow:
        """The note before a slice; the batch's own row counts what was merged."""
        return stopped_row(self._steps.query_id, batch_id, stop, only_version(done))

    def _swap(self, table: str, rebuild_id: str, piece: Slice) -> Swapped | None:
        if self._swaps is None:
            raise SwapFailedError(f"rebuild {rebuild_id} cannot be carried out here")
        return self._swaps.carried_out(table, rebuild_id, piece)

    def _rebuilt(self, stop: Stop, piece: Slice, swapped: Swapped) -> tuple[Stop, Merged]:
        """The stop and part of a table after its swap: it is where its rebuild ended."""
        topic = swapped.topic
        topic.merged(swapped.high_water)
        topic.read_quarantine(None)
        self._generations[stop.table] = swapped.id
        result = MergeResult(swapped.delta_version, inserted=swapped.rows)
        done = replace(Merged.nothing(topic), result=result, engine="rebuild")
        # It may be complete to less than it was, until it has caught up: nothing is claimed.
        stop = replace(
            stop,
            offsets=piece.end,
            planned=None,
            attempts=0,
            complete_lsn=None,
            complete_time=None,
            reason="it was rebuilt from bronze and catches up with the stream",
            generation=swapped.id,
        )
        return stop, done

    def _next(
        self, app_id: str, topic: str, offsets: PartitionOffsets, end: PartitionOffsets
    ) -> tuple[Slice | None, list[RawEvent]]:
        """The next slice with as many events as fit; a single event is taken whatever its size."""
        offsets_max = SLICE_OFFSETS_MAX
        while True:
            piece = next_slice(app_id, offsets, end, offsets_max)
            if piece is None:
                return None, []
            limit = SLICE_BYTES_MAX if offsets_max > 1 else None
            try:
                return piece, self._read(piece.span(topic), limit).get(topic, [])
            except TooManyBytesError:
                offsets_max = max(1, min(offsets_max, piece.size) // 4)

    def _planned(self, stop: Stop) -> tuple[Slice | None, list[RawEvent]]:
        """The merge that was begun, with its events; none where it did not go through and fits no
        memory: a batch's part that was never read whole, or an earlier release's slice."""
        piece = stop.planned
        if piece is None or rebuild_of(piece) is not None:
            return piece, []
        try:
            limit = SLICE_BYTES_MAX if piece.size > 1 else None
            return piece, self._read(piece.span(stop.topic), limit).get(stop.topic, [])
        except TooManyBytesError:
            silver = self._topics.resolve(stop.topic, []).silver
        if silver is None:
            return None, []
        with silver.lock:
            silver.forget()
            if not silver.has_commit(piece.commit):
                return None, []
        return self._pass_over(stop, piece), []

    def _pass_over(self, stop: Stop, piece: Slice) -> Slice:
        """Adopt the positions of a merge that went through. Returns: the empty rest of its slice."""
        offsets = piece.start
        while True:
            small, events = self._next(piece.commit.app_id, stop.topic, offsets, piece.end)
            if small is None:
                return replace(piece, start=piece.end)
            self._take(stop, replace(small, commit=piece.commit), events)
            offsets = small.end

    def _take(self, stop: Stop, piece: Slice, events: list[RawEvent]) -> Merged:
        """Merge a slice."""
        topic = self._topics.named(stop.topic, events)
        if topic.silver is not None and stop.attempts:
            with topic.silver.lock:
                topic.silver.forget()  # whoever repaired the table wrote to it
        if not events:
            return Merged.nothing(topic)
        done = self._steps.take(stop.topic, events, piece.commit, retry=False)
        done.topic.merged(done.taken.high_water)
        return done

    def _runs_again(self, stop: Stop, done: Merged) -> Merged:
        for kept in (self._stops, self._due_at, self._contracts, self._contract_checked_at):
            kept.pop(stop.topic, None)
        log.info("table %s runs again: it has merged what it missed", stop.table)
        return done

    def _still_resuming(self, stop: Stop, done: Merged) -> Stopped:
        log.info("table %s is catching up", stop.table)
        self._stops[stop.topic] = stop
        self._due_at[stop.topic] = 0.0
        return Stopped(done, stop)

    def _contract_changed(self, topic: str, now: float) -> bool:
        if now - self._contract_checked_at[topic] < CONTRACT_CHECK_S:
            return False
        self._contract_checked_at[topic] = now
        return self._steps.contract_of(topic, refresh=True) != self._contracts[topic]


def _has_more(stop: Stop, end: PartitionOffsets) -> bool:
    return stop.planned is not None or next_slice("", stop.offsets, end, 1) is not None

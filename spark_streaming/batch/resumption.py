"""Lets stopped tables catch up from their last offsets, during the batches of the others.

The batches leave out a stopped table's events. When the table is due, its events are read from
Kafka again, in slices, from the first that is not known to be merged to the end of the batch:
1. Read as many events as fit the driver; note their offsets and the name of their commit in the
   ledger.
2. Decode and fold them, quarantine the rejects that have no entry yet, merge.
3. Continue with the next slice, for a limited time; a table that reaches the batch's end is
   running again.

After a crash, or a failure that hides whether the commit succeeded, exactly the recorded slice is repeated; by the
commit's name, the table's log shows whether it has that slice. The borders of a
slice never change, so no event is merged twice or left out, with or without a key.
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
# The other tables wait for the end of the batch: a slice takes a second at most, and after two
# seconds the rest is left to the next batch.
SLICE_OFFSETS_MAX = 10_000
SLICE_BYTES_MAX = 64 << 20
SECONDS_MAX = 2.0
# The pause between checks of the contract of a table that a rule stopped.
CONTRACT_CHECK_S = 15.0
REQUEST_CHECK_S = 1.0


class Resumption:
    """The stopped tables of one query.

    Args:
        restored: the state in the ledger at the start.
        read: reads the events of any span again.
        requested: takes the requests to resume; returns their silver tables.
        swaps: carries out rebuilds; None if none can be requested.
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
        # Silver table → the id of the rebuild that its rows come from.
        self._generations = dict(restored.generations)
        self._stops = {stop.topic: stop for stop in restored.stops}
        # A new process resumes them at once.
        self._due_at = dict.fromkeys(self._stops, 0.0)
        self._contracts: dict[str, str] = {}
        self._contract_checked_at: dict[str, float] = {}
        self._requests_checked_at = 0.0

    def is_stopped(self, topic: str) -> bool:
        """Whether this topic's table is stopped, so that batches leave out its events."""
        return topic in self._stops

    def generation(self, table: str) -> str:
        """The id of the rebuild that a table's rows come from; "" for a table never rebuilt."""
        return self._generations.get(table, "")

    def start_swaps(
        self, batch_id: int, span: BatchSpan, complete: tuple[Lsn | None, datetime | None]
    ) -> None:
        """Stop the tables whose rebuild is to be swapped in; called before the batch is read.

        Args:
            complete: the LSN and the source's time up to which tables are complete.
        """
        for state in self._swaps.asked() if self._swaps is not None else ():
            try:
                self._start_swap(state, batch_id, span, complete)
            except Exception as error:  # noqa: BLE001 - reported in the answer; batches continue
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
            return  # a part of this batch is merged but not in the ledger: wait for the next batch
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
            reason="a rebuild from bronze is being swapped in",
            planned=state.swap(stop.offsets),
            attempts=0,
            on_purpose=False,
        )
        # Noted first: after any crash or failure the table continues with this step.
        self._ledger.note([self._planned_row(batch_id, stop, Merged.nothing(topic))])
        log.info("swapping in the rebuild of table %s: its changes wait until then", state.table)
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
                "  hint: the next try is in %.0f s, later ones come less often; once the cause is"
                " repaired, `headwater resume %s` tries at once. State: SELECT * FROM ops.freshness",
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
        """The stopped tables that are due to resume in the batch of this span."""
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
        """Merge the events that a stopped table has missed, up to the span's end if time allows.

        Returns: `Merged` if the table is running again.
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
        except Exception as error:  # any failure here concerns only this table
            log.debug("resuming %s failed", stop.table, exc_info=True)
            return Stopped(done, self.stop(replace(stop, attempts=stop.attempts + 1), error))

    def _next_piece(
        self, stop: Stop, end: PartitionOffsets
    ) -> tuple[Stop, Slice | None, list[RawEvent]]:
        """The slice to merge next: the one that is noted, or a new one."""
        piece, events = self._planned(stop)
        if piece is not None:
            return stop, piece, events
        stop = replace(stop, planned=None)
        return stop, *self._next(
            slices_app_id(self._steps.query_id, stop), stop.topic, stop.offsets, end
        )

    def _planned_row(self, batch_id: int, stop: Stop, done: Merged) -> LedgerRow:
        """The ledger's row that notes a slice; the batch's own row counts the merged events."""
        return stopped_row(self._steps.query_id, batch_id, stop, only_version(done))

    def _swap(self, table: str, rebuild_id: str, piece: Slice) -> Swapped | None:
        if self._swaps is None:
            raise SwapFailedError(f"this process cannot swap in rebuild {rebuild_id}")
        return self._swaps.carried_out(table, rebuild_id, piece)

    def _rebuilt(self, stop: Stop, piece: Slice, swapped: Swapped) -> tuple[Stop, Merged]:
        """The stop and the part of a table after its swap; the table resumes at the end of its rebuild."""
        topic = swapped.topic
        topic.merged(swapped.high_water)
        topic.read_quarantine(None)
        self._generations[stop.table] = swapped.id
        result = MergeResult(swapped.delta_version, inserted=swapped.rows)
        done = replace(Merged.nothing(topic), result=result, engine="rebuild")
        # Until it has caught up, the table may be less complete than it was: claim nothing.
        stop = replace(
            stop,
            offsets=piece.end,
            planned=None,
            attempts=0,
            complete_lsn=None,
            complete_time=None,
            reason="it was rebuilt from bronze and is catching up with the stream",
            generation=swapped.id,
        )
        return stop, done

    def _next(
        self, app_id: str, topic: str, offsets: PartitionOffsets, end: PartitionOffsets
    ) -> tuple[Slice | None, list[RawEvent]]:
        """The next slice, with as many events as fit; a single event of any size is taken."""
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
        """The noted slice with its events; none if it was not committed and does not fit memory.

        That may be a batch's part that was never read whole, or an earlier release's slice.
        """
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
        """Take the positions of a slice that was committed. Returns: its empty rest."""
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
                topic.silver.forget()  # a repair from outside may have written to the table
        if not events:
            return Merged.nothing(topic)
        done = self._steps.take(stop.topic, events, piece.commit, retry=False)
        done.topic.merged(done.taken.high_water)
        return done

    def _runs_again(self, stop: Stop, done: Merged) -> Merged:
        for kept in (self._stops, self._due_at, self._contracts, self._contract_checked_at):
            kept.pop(stop.topic, None)
        log.info("table %s is running again: it has caught up", stop.table)
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


def slices_app_id(query_id: str, stop: Stop) -> str:
    """The application id of a stopped table's slices.

    A rebuild begins at offsets that the table's log may have recorded already, and these records
    survive the overwrite; so each rebuild has an id of its own.
    """
    name = f"headwater:{query_id}:{stop.table}:resume"
    return f"{name}:{stop.generation}" if stop.generation else name


def _has_more(stop: Stop, end: PartitionOffsets) -> bool:
    return stop.planned is not None or next_slice("", stop.offsets, end, 1) is not None

"""One micro-batch: decode and fold each table's events, quarantine, merge, write the ledger.

The protocol, in order; a crash between any two steps is repaired by running the batch again:
1. Decode and fold every table's events and apply its rules, in parallel. Nothing is written.
2. Put the rejects into quarantine, in one commit with the batch's transaction id; close entries
   that the batch makes out of date; count broken rules.
3. Merge every touched table, in parallel, each in one commit with the batch's transaction id.
   Stopped tables that are due go on beside them (resume.py); a table that failed is stopped.
4. Append the ledger's rows, in one commit. Only now the positions count as merged.
5. Spark commits the offsets.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from spark_streaming.breaches import Breach, Breaches
from spark_streaming.engines.protocol import Commit, MergeEngine, MergeResult
from spark_streaming.envelope import HighWater
from spark_streaming.events import RawEvent
from spark_streaming.fold import Folded
from spark_streaming.gate import Gate
from spark_streaming.ledger import Ledger, LedgerRow, Restored
from spark_streaming.ledger_rows import (
    failing_rows,
    running_row,
    steps_told,
    stopped_row,
    whole_row,
)
from spark_streaming.offsets import BatchSpan, reached_in, version_of
from spark_streaming.part import Part, Work, merge_retried
from spark_streaming.preparation import Preparation
from spark_streaming.quality import ContractFolder
from spark_streaming.quarantine import Quarantine
from spark_streaming.resume import Read, Resumption
from spark_streaming.stopped import (
    Failure,
    Slice,
    Stop,
    batch_must_fail,
    first_offsets,
    reason_of,
)
from spark_streaming.swap import Swaps
from spark_streaming.table import SilverTable
from spark_streaming.topics import Topic, Topics

log = logging.getLogger(__name__)
# A store that answers badly for a moment is waited for; a longer trouble stops the table, or ends
# the batch where it is everybody's.
RETRY_PAUSES_S = (0.2, 1.0, 3.0)


class BatchFailedError(Exception):
    """One or more tables could not be merged; the batch will be run again from its start."""


class BatchRunner:
    """Runs batches of one query.

    `choose` picks the merge engine of one folded batch; `read` gives the events of any span, for
    stopped tables; `requested` the silver tables that an operator asked to go on with; `swaps` the
    tables that were built aside.
    """

    def __init__(
        self,
        *,
        query_id: str,
        topics: Topics,
        ledger: Ledger,
        quarantine: Quarantine,
        choose: Callable[[Folded], MergeEngine],
        pool: ThreadPoolExecutor,
        restored: Restored,
        read: Read,
        requested: Callable[[], set[str]] = set,
        contracts: ContractFolder | None = None,
        breaches: Breaches | None = None,
        swaps: Swaps | None = None,
    ) -> None:
        self._query_id = query_id
        self._topics = topics
        self._ledger = ledger
        self.gate = Gate(contracts or ContractFolder(), quarantine, breaches, topics)
        self._preparation = Preparation(
            topics, self.gate, lambda part, commit: self.merge(part, commit, RETRY_PAUSES_S)
        )
        self._replayed: dict[str, Part] = {}
        self._choose = choose
        self._pool = pool
        self._complete_lsn = restored.complete_lsn
        self._complete_time = self._seen_time = restored.complete_time
        self._failures = restored.failures
        self._stopped = Resumption(
            query_id=query_id,
            topics=topics,
            ledger=ledger,
            steps=self,
            read=read,
            stops=restored.stops,
            requested=requested,
            swaps=swaps,
            generations=restored.generations,
        )

    def begin(self, batch_id: int, span: BatchSpan) -> None:
        """Before a batch is read: its events of tables that are being rebuilt are left out."""
        if not self._ledger.has(batch_id):
            self._stopped.take_up(batch_id, span, (self._complete_lsn, self._complete_time))

    def has_begun(self, batch_id: int, silver: SilverTable) -> bool:
        """Whether a table has merged something of a batch already, which is repeated then."""
        with silver.lock:
            return reached_in(silver.recorded(self.commit(silver.name, 0).app_id), batch_id) > 0

    def note_replay(self, topic: Topic, result: MergeResult, engine: str) -> None:
        """Let the next batch's ledger tell of a commit that was made between two batches."""
        part = Part(topic, 0, high_water=topic.high_water, result=result, engine=engine)
        self._replayed[topic.name] = part

    def is_stopped(self, topic: str) -> bool:
        """Whether a topic's table is stopped: nothing may be merged into it but in its turn."""
        return self._stopped.holds(topic)

    def run(
        self,
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
        *,
        saw_all: bool,
        started: float,
        more: Iterable[Work] = (),
    ) -> list[LedgerRow]:
        """Take a batch through steps 1 to 4.

        Args:
            events: by topic, in any order.
            more: parts of other topics, beyond what the driver holds at once: each is worked off
                by itself, after these events.
            saw_all: the batch takes everything that was visible when it was planned.
            started: `time.monotonic()` at the batch's start, for the ledger.
        Returns: the ledger's rows. Raises: BatchFailedError.
        """
        if self._ledger.has(batch_id):
            log.info("batch %d is in the ledger already", batch_id)
            return []
        # Whatever a position of an earlier batch tells to be committed was visible before this
        # batch was planned, in every topic: it is merged when this batch is.
        seen_before = self._topics.greatest_commit_lsn()
        self._topics.look(span, self._complete_lsn, self._stopped.holds)
        clock = [started, time.monotonic()]
        live = sorted(item for item in events.items() if not self._stopped.holds(item[0]))
        parts = self._all(lambda item: self._prepared(batch_id, *item), live)
        clock.append(time.monotonic())
        self.gate.begin()
        self.gate.look_around(parts)
        self.gate.put_aside([part for part in parts if part.failure is None], batch_id)
        self._all(lambda part: self._merged(part, batch_id), parts)
        parts += self._worked_off(more) + self._resumed(batch_id, span)
        parts += self._dropped(span, {part.topic.name for part in parts})
        self._stop_failed(parts, batch_id, events, span)
        clock.append(time.monotonic())
        if saw_all and seen_before is not None:
            self._complete_lsn = max(self._complete_lsn or 0, seen_before)
            self._complete_time = self._seen_time
        told = {part.topic.name for part in parts}
        parts += [part for name, part in self._replayed.items() if name not in told]
        rows = self._rows(batch_id, parts, span, started)
        self._topics.evolver.flush()
        self._ledger.append(rows, batch_id)
        clock.append(time.monotonic())
        log.debug(
            "batch %d of %d events in %d tables: %s",
            batch_id,
            span.size,
            len(parts),
            steps_told(clock),
        )
        going = [part for part in parts if part.stop is None]
        for part in going:
            part.topic.high_water = part.high_water
            self.gate.remember(part)
        self._replayed.clear()
        times = [part.seen_time for part in going if part.seen_time is not None]
        self._seen_time = max(
            [*times, *([self._seen_time] if self._seen_time else [])], default=None
        )
        return rows

    def round(self, batch_id: int, events: Mapping[str, list[RawEvent]]) -> list[Part]:
        """Steps 1 to 3 for the whole parts of some more topics."""
        live = sorted(item for item in events.items() if not self.is_stopped(item[0]))
        parts = self._all(lambda item: self._prepared(batch_id, *item), live)
        self.gate.look_around(parts)
        # The batch's own number stands for its first round.
        self.gate.put_aside([part for part in parts if part.failure is None], None)
        self._all(lambda part: self._merged(part, batch_id), parts)
        for part in parts:
            part.folded = None  # its rows are merged, and the batch may go on for long
        return parts

    def _worked_off(self, more: Iterable[Work]) -> list[Part]:
        parts: list[Part] = []
        for work in more:
            try:
                parts += work.run()
            except Exception as error:  # noqa: BLE001 - kept; `_stop_failed` decides
                failed = [self._topics.named(name, []) for name in work.topics]
                parts += [Part(topic, 0, failure=error) for topic in failed]
        return parts

    def _prepared(self, batch_id: int, name: str, events: list[RawEvent]) -> Part:
        """A table's part, with its failure if it has one."""
        topic = self._topics.named(name, events)
        try:
            commit = self.commit(topic.silver_name, version_of(batch_id))
            return self.prepare(name, events, commit)
        except Exception as error:  # noqa: BLE001 - kept; `_stop_failed` decides
            return Part(topic, len(events), failure=error)

    def prepare(
        self, name: str, events: list[RawEvent], commit: Commit, since: HighWater | None = None
    ) -> Part:
        """Decode and fold some events of one topic: see `Preparation`."""
        return self._preparation.prepare(name, events, commit, since)

    def set_aside(self, part: Part) -> None:
        """Step 2 for one table alone, that may be repeated. Raises: TableStoppedError."""
        self._preparation.set_aside(part)

    def remember(self, part: Part) -> None:
        """After a table's merge: later batches know what it put into quarantine."""
        self.gate.remember(part)

    def contract_of(self, topic: str, *, refresh: bool = False) -> str:
        """What changes with a topic's contract, or with its contract file."""
        known = self._topics.named(topic, [])
        stamp = self.gate.contracts.stamp(known.schema, known.table)
        return f"{self._topics.contract_of(topic, refresh=refresh)} {stamp}"

    @property
    def breaches(self) -> list[Breach]:
        """The rules that rows of the last batch broke."""
        return self.gate.found

    def commit(self, silver_name: str, version: int) -> Commit:
        """The identity of a table's merge; for versions see `offsets.version_of`."""
        return Commit(f"headwater:{self._query_id}:{silver_name}", version)

    def _merged(self, part: Part, batch_id: int) -> None:
        if part.failure is not None:
            return
        try:
            self.merge(
                part, self.commit(part.topic.silver_name, version_of(batch_id)), RETRY_PAUSES_S
            )
        except Exception as error:  # noqa: BLE001 - kept; `_stop_failed` decides
            part.failure = error

    def merge(self, part: Part, commit: Commit, pauses: tuple[float, ...]) -> None:
        """Merge a prepared part in one commit, trying again after each of the pauses (s)."""
        folded, silver = part.folded, part.topic.silver
        if folded is None or silver is None or folded.is_nothing:
            return
        engine = self._choose(folded)
        merge_retried(
            part, silver, engine.name, lambda: engine.merge(silver, folded, commit), pauses
        )

    def _resumed(self, batch_id: int, span: BatchSpan) -> list[Part]:
        """Let the stopped tables that are due go on, side by side."""
        due = self._stopped.due(span)
        return self._all(lambda stop: self._stopped.go_on(stop, batch_id, span), due)

    def _dropped(self, span: BatchSpan, told: set[str]) -> list[Part]:
        """The tables that are to stop now, for their source dropped them."""
        return [
            Part(topic, 0, failure=error)
            for topic, error in self._topics.dropped(self._complete_lsn, self.is_stopped)
            if topic.name in span.end and topic.name not in told
        ]

    def _stop_failed(
        self,
        parts: list[Part],
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
    ) -> None:
        """Stop the tables that failed in this batch. Raises: BatchFailedError instead, where it
        is not these tables' trouble but everybody's."""
        failed = [(part, part.failure) for part in parts if part.failure is not None]
        if not failed:
            return
        attempts = {}
        for part, error in failed:
            name = part.topic.silver_name
            earlier = self._failures.get((self._query_id, batch_id, name), 0)
            attempts[name] = Failure(error, earlier)
            part.stop = self._first_stop(part, error, batch_id, events, span)
        worked = sum(1 for p in parts if p.failure is None and p.stop is None and p.topic.silver)
        internal = any(part.topic.internal for part, _ in failed)
        if internal or batch_must_fail(list(attempts.values()), worked):
            self._note_failing(failed, attempts, batch_id)
            raise BatchFailedError(
                f"{len(failed)} of {len(parts)} tables failed; the others are merged\n"
                f"  detail: {failed[0][1]}"
            ) from failed[0][1]
        for part, error in failed:
            assert part.stop is not None
            part.stop = self._stopped.stop(part.stop, error)

    def _first_stop(
        self,
        part: Part,
        error: Exception,
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
    ) -> Stop:
        topic = part.topic
        seen = [(event.partition, event.offset) for event in events.get(topic.name, [])]
        start = first_offsets(span, topic.name, seen)
        name = self.commit(topic.silver_name, version_of(batch_id))
        # The last try may have gone through unseen: the same events under the same name.
        planned = part.planned or Slice(start, span.end[topic.name], name)
        return Stop(
            topic.name,
            topic.silver_name,
            reason_of(error),
            datetime.now(timezone.utc),
            planned.start,
            planned,
            complete_lsn=self._complete_lsn,
            complete_time=self._complete_time,
            generation=self._stopped.generation(topic.silver_name),
        )

    def _note_failing(
        self, failed: list[tuple[Part, Exception]], attempts: dict[str, Failure], batch_id: int
    ) -> None:
        """Count the failures for the process that repeats the batch."""
        tries = {name: attempt.earlier + 1 for name, attempt in attempts.items()}
        rows = failing_rows(self._query_id, batch_id, [part for part, _ in failed], tries)
        if not rows:
            return
        try:
            self._ledger.note(rows)
        except Exception as error:  # noqa: BLE001 - the store's own trouble, then
            log.warning("the ledger cannot be written: %s: %s", type(error).__name__, error)

    def _all(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Run `work` on every item in parallel; all of them end before a failure is raised."""
        if len(items) == 1:
            return [work(items[0])]
        futures: list[Future[Any]] = [self._pool.submit(work, item) for item in items]
        wait(futures)
        return [future.result() for future in futures]

    def _rows(
        self, batch_id: int, parts: list[Part], span: BatchSpan, started: float
    ) -> list[LedgerRow]:
        rows = [
            stopped_row(self._query_id, batch_id, part.stop, part)
            if part.stop is not None
            else running_row(
                self._query_id,
                batch_id,
                part,
                span,
                self._complete_lsn,
                self._stopped.generation(part.topic.silver_name),
            )
            for part in parts
            if not part.topic.internal
        ]
        whole = whole_row(
            self._query_id, batch_id, parts, rows, span, self._complete_lsn, self._complete_time
        )
        targets = json.dumps(self.gate.contracts.freshness_targets(), sort_keys=True)
        ms = int((time.monotonic() - started) * 1000)
        whole = replace(whole, duration_ms=ms, freshness_targets=targets)
        return [*rows, whole]

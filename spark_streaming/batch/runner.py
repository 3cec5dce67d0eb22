"""One micro-batch: decode and fold each table's events, quarantine, merge, write the ledger.

The protocol, in order; a crash between any two steps is repaired by running the batch again:
1. Decode and fold every table's events and apply its rules, in parallel. Only where a table
   changed in the middle of the batch is something written: the events from before the change are
   quarantined and merged in a commit of their own, then silver follows the change.
2. Quarantine the rejects, in one commit with the batch's transaction id; close entries that the
   batch supersedes; count broken rules.
3. Merge every touched table, in parallel, each in one commit with the batch's transaction id.
   Stopped tables that are due catch up beside them (resumption.py); a table that failed is stopped.
4. Append the ledger's rows, in one commit. Only now do the positions count as merged.
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

from spark_streaming.batch.completeness import Claims
from spark_streaming.batch.gate import Gate
from spark_streaming.batch.ledger_rows import (
    failing_rows,
    running_row,
    step_times,
    stopped_row,
    whole_row,
)
from spark_streaming.batch.part import BatchFailedError, Part, Work, merge_retried
from spark_streaming.batch.preparation import Preparation
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.swap import Swaps
from spark_streaming.events.envelope import HighWater
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.breaches import Breach, Breaches
from spark_streaming.ops.ledger import Ledger, LedgerRow, Restored
from spark_streaming.ops.stopped import (
    Failure,
    Slice,
    Stop,
    batch_must_fail,
    first_offsets,
    reason_of,
)
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.reading.kafka_source import Read
from spark_streaming.reading.offsets import BatchSpan, Offsets, reached_in, version_of
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.empty_tables import EmptyTables
from spark_streaming.schema.topics import Topic, Topics
from spark_streaming.tables.engine_protocol import Commit, MergeEngine, MergeResult
from spark_streaming.tables.silver_table import SilverTable

log = logging.getLogger(__name__)
# For an object store that fails for a moment; a longer failure stops the table, or the batch.
RETRY_PAUSES_S = (0.2, 1.0, 3.0)


class BatchRunner:
    """Runs batches of one query.

    `engine` merges what the driver folded; `read` gives the events of any span, for
    stopped tables; `requested` the silver tables that an operator asked to resume; `swaps` carries out
    swaps of rebuilt tables; `ends` gives what Kafka has written (see `completeness`);
    `empty_tables` finds captured tables without an event.
    """

    def __init__(
        self,
        *,
        query_id: str,
        topics: Topics,
        ledger: Ledger,
        quarantine: Quarantine,
        engine: MergeEngine,
        pool: ThreadPoolExecutor,
        restored: Restored,
        read: Read,
        requested: Callable[[], set[str]] = set,
        contracts: ContractFolder | None = None,
        breaches: Breaches | None = None,
        swaps: Swaps | None = None,
        ends: Callable[[], Offsets | None] | None = None,
        empty_tables: EmptyTables | None = None,
    ) -> None:
        self._query_id = query_id
        self._topics = topics
        self._ledger = ledger
        self.gate = Gate(contracts or ContractFolder(), quarantine, breaches, topics)
        self._preparation = Preparation(
            topics, self.gate, lambda part, commit: self.merge(part, commit, RETRY_PAUSES_S)
        )
        self._replayed: dict[str, Part] = {}
        self._empty_tables = empty_tables
        self._engine = engine
        self._pool = pool
        self._seen_time = restored.complete_time
        self._claims = Claims(
            restored.complete_lsn,
            restored.complete_time,
            restored.high_water.greatest_commit_lsn or None,
            ends,
        )
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
        """Stop the tables whose rebuild is to be swapped in, before a batch is read."""
        if not self._ledger.has(batch_id):
            self._stopped.start_swaps(batch_id, span, (self._claims.lsn, self._claims.time))

    def has_begun(self, batch_id: int, silver: SilverTable) -> bool:
        """Whether a table has merged a part of a batch already, which is then being repeated."""
        with silver.lock:
            return reached_in(silver.recorded(self.commit(silver.name, 0).app_id), batch_id) > 0

    def note_replay(self, topic: Topic, result: MergeResult, engine: str) -> None:
        """Put a commit that was made between two batches into the next batch's ledger rows."""
        part = Part(topic, 0, high_water=topic.high_water, result=result, engine=engine)
        self._replayed[topic.name] = part

    def is_stopped(self, topic: str) -> bool:
        """Whether a topic's table is stopped: only `Resumption` may merge into it."""
        return self._stopped.is_stopped(topic)

    def run(
        self,
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
        *,
        started: float,
        more: Iterable[Work] = (),
    ) -> list[LedgerRow]:
        """Take a batch through steps 1 to 4.

        Args:
            events: by topic, in any order.
            more: parts of other topics, beyond what the driver holds at once: each is worked off
                by itself, after these events.
            started: `time.monotonic()` at the batch's start, for the ledger.
        Returns: the ledger's rows. Raises: BatchFailedError.
        """
        if self._ledger.has(batch_id):
            log.info("batch %d is in the ledger already", batch_id)
            return []
        self._claims.begin()
        self._topics.check(span, self._claims.lsn, self._stopped.is_stopped)
        empty = self._empty_tables.check(span, self._claims.lsn) if self._empty_tables else []
        clock = [started, time.monotonic()]
        live = sorted(item for item in events.items() if not self._stopped.is_stopped(item[0]))
        parts = self._all(lambda item: self._prepared(batch_id, *item), live)
        clock.append(time.monotonic())
        self.gate.begin()
        self.gate.apply_references(parts)
        self.gate.quarantine_rejects([part for part in parts if part.failure is None], batch_id)
        self._all(lambda part: self._merged(part, batch_id), parts)
        parts += self._run_work(more) + self._resumed(batch_id, span)
        parts += self._dropped(span, {part.topic.name for part in parts})
        self._stop_failed(parts, batch_id, events, span)
        clock.append(time.monotonic())
        self._claims.prove(span.end)
        reported = {part.topic.name for part in parts}
        parts += [part for name, part in self._replayed.items() if name not in reported]
        parts += [Part(topic, 0, claims=False) for topic in empty if topic.name not in reported]
        rows = self._rows(batch_id, parts, span, started)
        self._topics.evolver.flush()
        self._ledger.append(rows, batch_id)
        if self._empty_tables is not None:
            self._empty_tables.recorded()
        clock.append(time.monotonic())
        log.debug(
            "batch %d of %d events in %d tables: %s",
            batch_id,
            span.size,
            len(parts),
            step_times(clock),
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
        self._claims.merged(self._topics.greatest_commit_lsn(), self._seen_time)
        return rows

    def round(self, batch_id: int, events: Mapping[str, list[RawEvent]]) -> list[Part]:
        """Steps 1 to 3 for the whole parts of some more topics."""
        live = sorted(item for item in events.items() if not self.is_stopped(item[0]))
        parts = self._all(lambda item: self._prepared(batch_id, *item), live)
        self.gate.apply_references(parts)
        # The batch's own number stands for its first round.
        self.gate.quarantine_rejects([part for part in parts if part.failure is None], None)
        self._all(lambda part: self._merged(part, batch_id), parts)
        for part in parts:
            part.folded = None  # its rows are merged, and the batch may go on for long
        return parts

    def _run_work(self, more: Iterable[Work]) -> list[Part]:
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

    def quarantine_rejects(self, part: Part) -> None:
        """Step 2 for one table alone, that may be repeated. Raises: TableStoppedError."""
        self._preparation.quarantine_rejects(part)

    def remember(self, part: Part) -> None:
        """Keep in mind, after a table's merge, what it put into quarantine."""
        self.gate.remember(part)

    def contract_of(self, topic: str, *, refresh: bool = False) -> str:
        """A text that differs when a topic's contract or its contract file does."""
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
        engine = self._engine
        merge_retried(
            part, silver, engine.name, lambda: engine.merge(silver, folded, commit), pauses
        )

    def _resumed(self, batch_id: int, span: BatchSpan) -> list[Part]:
        """Resume the stopped tables that are due, in parallel."""
        due = self._stopped.due(span)
        return self._all(lambda stop: self._stopped.resume(stop, batch_id, span), due)

    def _dropped(self, span: BatchSpan, reported: set[str]) -> list[Part]:
        """The tables that are to stop now because their source dropped them."""
        return [
            Part(topic, 0, failure=error)
            for topic, error in self._topics.dropped(self._claims.lsn, self.is_stopped)
            if topic.name in span.end and topic.name not in reported
        ]

    def _stop_failed(
        self,
        parts: list[Part],
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
    ) -> None:
        """Stop the failed tables. Raises: BatchFailedError, if the failure concerns all tables."""
        failed = [(part, part.failure) for part in parts if part.failure is not None]
        if not failed:
            return
        attempts = {}
        for part, error in failed:
            name = part.topic.silver_name
            previous = self._failures.get((self._query_id, batch_id, name), 0)
            attempts[name] = Failure(error, previous)
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
        # The last attempt may have gone through unseen: repeat the same events under the same name.
        planned = part.planned or Slice(start, span.end[topic.name], name)
        return Stop(
            topic.name,
            topic.silver_name,
            reason_of(error),
            datetime.now(timezone.utc),
            planned.start,
            planned,
            complete_lsn=self._claims.lsn,
            complete_time=self._claims.time,
            generation=self._stopped.generation(topic.silver_name),
        )

    def _note_failing(
        self, failed: list[tuple[Part, Exception]], attempts: dict[str, Failure], batch_id: int
    ) -> None:
        """Count the failures for the process that repeats the batch."""
        tries = {name: attempt.previous + 1 for name, attempt in attempts.items()}
        rows = failing_rows(self._query_id, batch_id, [part for part, _ in failed], tries)
        if not rows:
            return
        try:
            self._ledger.note(rows)
        except Exception as error:  # noqa: BLE001 - then the object store is the problem
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
                self._claims.lsn,
                self._stopped.generation(part.topic.ledger_name),
            )
            for part in parts
            if not part.topic.internal
        ]
        whole = whole_row(
            self._query_id, batch_id, parts, rows, span, self._claims.lsn, self._claims.time
        )
        targets = json.dumps(self.gate.contracts.freshness_targets(), sort_keys=True)
        ms = int((time.monotonic() - started) * 1000)
        whole = replace(whole, duration_ms=ms, freshness_targets=targets)
        return [*rows, whole]

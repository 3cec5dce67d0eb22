"""Runs one micro-batch: `BatchRunner.run` is the protocol, step by step."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from spark_streaming.batch.completeness import Claims
from spark_streaming.batch.failed_parts import Failures
from spark_streaming.batch.ledger_rows import running_row, step_times, stopped_row, whole_row
from spark_streaming.batch.part import Failed, Merged, Stopped, Taken, Work
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.rounds import Rounds
from spark_streaming.events.envelope import HighWater
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger, LedgerRow, Restored
from spark_streaming.reading.offsets import BatchSpan, Offsets
from spark_streaming.schema.empty_tables import EmptyTables
from spark_streaming.schema.topic import Topic
from spark_streaming.tables.engine_protocol import MergeResult

log = logging.getLogger(__name__)


class BatchRunner:
    """Runs batches of one query.

    Args:
        rounds: the steps for many tables; `stopped`: the tables that the batches leave out.
        restored: the state in the ledger at the start.
        ends: asks Kafka for the ends of its partitions (see `completeness`).
        empty_tables: finds captured tables without an event.
    """

    def __init__(
        self,
        rounds: Rounds,
        stopped: Resumption,
        ledger: Ledger,
        restored: Restored,
        *,
        ends: Callable[[], Offsets | None] | None = None,
        empty_tables: EmptyTables | None = None,
    ) -> None:
        self.steps = rounds.steps
        self.stopped = stopped
        self._rounds = rounds
        self._ledger = ledger
        self._empty_tables = empty_tables
        self._replayed: dict[str, Merged] = {}
        self._claims = Claims(
            restored.complete_lsn,
            restored.complete_time,
            restored.high_water.greatest_commit_lsn or None,
            ends,
        )
        self._failures = Failures(rounds.steps, stopped, ledger, restored.failures)

    def begin(self, batch_id: int, span: BatchSpan) -> None:
        """Stop the tables whose rebuild is to be swapped in, before a batch is read."""
        if not self._ledger.has(batch_id):
            self.stopped.start_swaps(batch_id, span, (self._claims.complete_lsn, self._claims.time))

    def note_replay(self, topic: Topic, result: MergeResult, engine: str) -> None:
        """Keep a commit made between two batches for the next batch's rows in the ledger."""
        self._replayed[topic.name] = replace(Merged.nothing(topic), result=result, engine=engine)

    def run(
        self,
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
        *,
        started: float,
        more: Iterable[Work] = (),
    ) -> list[LedgerRow]:
        """Take a batch through its steps; after an interruption it is run again from the start.

        1. Check the source's catalog; ask Kafka for the ends of its partitions. Where all events
           from before a change are merged, silver follows the change at once. Captured tables
           without an event are made.
           A crash leaves tables that follow their source. The commit of each is named by the
           contract's version and is not repeated.
        2. Decode, fold and judge every table's events, in parallel. If a table, keyed or not,
           changed in the middle of its part, the events from before the change are quarantined
           and merged here, in commits of their own; then silver follows the change, and only the
           later events remain. New tables are made.
           A crash leaves those commits; `unmerged` recognises them by name and leaves out their
           events. Nothing is written of any other event.
        3. Apply the rules between tables; quarantine the rejects, in one commit with the batch's
           number; close the entries that the batch supersedes; count broken rules.
           A crash leaves entries of events that silver does not have yet. The repeated batch writes
           only missing entries, and closing an entry again changes nothing.
        4. Merge every table, in parallel, each in one commit with the batch's number. Then merge
           the parts that do not fit the driver (`more`), each through steps 2 to 4 by itself, and
           the stopped tables that are due (`resumption`). A table that fails is stopped.
           A crash leaves some tables ahead of the ledger. Their logs have the commits of their
           parts or slices, which the repeated batch skips. A stopped table's slice is in the
           ledger before its merge, and is repeated under the same name.
        5. Append the ledger's rows, in one commit. Only now do the positions count as merged.
           After a crash Spark repeats the batch, finds it in the ledger, and does nothing.
        6. When this returns, Spark commits the offsets.

        Args:
            events: the events of the first round by topic, in any order.
            more: parts that the driver reads only in later rounds.
            started: `time.monotonic()` at the batch's start, for the ledger.
        Returns: the ledger's rows. Raises: BatchFailedError.
        """
        if self._ledger.has(batch_id):
            log.info("batch %d is already in the ledger", batch_id)
            return []
        # 1. Check the catalog, ask Kafka
        self._claims.begin()
        self.steps.topics.check(span, self._claims.complete_lsn, self.stopped.is_stopped)
        empty = (
            self._empty_tables.check(span, self._claims.complete_lsn) if self._empty_tables else []
        )
        clock = [started, time.monotonic()]
        # 2. Decode, fold and judge
        running = {n: some for n, some in events.items() if not self.stopped.is_stopped(n)}
        prepared, failed = self._rounds.prepare(batch_id, running)
        clock.append(time.monotonic())
        # 3. Quarantine
        self.steps.gate.begin()
        validated, refused = self._rounds.quarantine(prepared, batch_id)
        # 4. Merge
        parts: list[Merged | Failed | Stopped] = [*failed, *refused]
        parts += self._rounds.merge(batch_id, validated)
        parts += self._run_work(more)
        due = self.stopped.due(span)
        parts += self._rounds.each(lambda stop: self.stopped.resume(stop, batch_id, span), due)
        parts += self._dropped(span, {part.topic.name for part in parts})
        done = self._failures.stop_failed(parts, batch_id, events, span, self._claims)
        clock.append(time.monotonic())
        # 5. Append to the ledger
        self._claims.prove(span.end)
        done += self._without_events(empty, {part.topic.name for part in done})
        rows = self._rows(batch_id, done, span, started)
        self.steps.topics.evolver.records.flush()
        self._ledger.append(rows, batch_id)
        clock.append(time.monotonic())
        log.debug(
            "batch %d of %d events in %d tables: %s",
            batch_id,
            span.size,
            len(done),
            step_times(clock),
        )
        self._recorded([part for part in done if isinstance(part, Merged)])
        return rows

    def _run_work(self, more: Iterable[Work]) -> list[Merged | Failed]:
        parts: list[Merged | Failed] = []
        for work in more:
            try:
                parts += work.run()
            except Exception as error:  # noqa: BLE001 - kept; `Failures` decides
                topics = [self.steps.topics.named(name, []) for name in work.topics]
                parts += [Failed(Merged.nothing(topic), error) for topic in topics]
        return parts

    def _dropped(self, span: BatchSpan, reported: set[str]) -> list[Failed]:
        """The tables that must stop now because the source dropped them."""
        found = self.steps.topics.dropped(self._claims.complete_lsn, self.stopped.is_stopped)
        return [
            Failed(Merged.nothing(topic), error)
            for topic, error in found
            if topic.name in span.end and topic.name not in reported
        ]

    def _without_events(self, empty: Sequence[Topic], reported: set[str]) -> list[Merged]:
        """The parts of tables without an event in this batch: replayed or new ones."""
        found = [part for name, part in self._replayed.items() if name not in reported]
        reported = reported | {part.topic.name for part in found}
        nothing = [Taken(topic, 0, HighWater()) for topic in empty if topic.name not in reported]
        return [*found, *(Merged(taken, claims=False) for taken in nothing)]

    def _recorded(self, parts: Sequence[Merged]) -> None:
        """Count the positions as merged, after the ledger has the batch."""
        if self._empty_tables is not None:
            self._empty_tables.recorded()
        for part in parts:
            part.topic.merged(part.taken.high_water)
        self._replayed.clear()
        times = [part.taken.seen_time for part in parts if part.taken.seen_time is not None]
        self._claims.merged(self.steps.topics.greatest_commit_lsn(), max(times, default=None))

    def _rows(
        self, batch_id: int, parts: Sequence[Merged | Stopped], span: BatchSpan, started: float
    ) -> list[LedgerRow]:
        query_id, claims = self.steps.query_id, self._claims
        rows = [
            stopped_row(query_id, batch_id, part.stop, part.done)
            if isinstance(part, Stopped)
            else running_row(
                query_id,
                batch_id,
                part,
                span,
                claims.complete_lsn,
                self.stopped.generation(part.topic.ledger_name),
            )
            for part in parts
            if not part.topic.internal
        ]
        merged = [part.done if isinstance(part, Stopped) else part for part in parts]
        whole = whole_row(query_id, batch_id, merged, rows, span, claims.complete_lsn, claims.time)
        targets = json.dumps(self.steps.gate.contracts.freshness_targets(), sort_keys=True)
        ms = int((time.monotonic() - started) * 1000)
        whole = replace(whole, duration_ms=ms, freshness_targets=targets)
        return [*rows, whole]

"""Decides what happens after parts of a batch failed: their tables stop, or the whole batch fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from spark_streaming.batch.completeness import Claims
from spark_streaming.batch.ledger_rows import failing_rows
from spark_streaming.batch.part import Failed, Merged, Stopped
from spark_streaming.batch.resumption import Resumption
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger
from spark_streaming.ops.stopped import (
    Failure,
    Slice,
    Stop,
    batch_must_fail,
    first_offsets,
    reason_of,
)
from spark_streaming.reading.offsets import BatchSpan

log = logging.getLogger(__name__)


class BatchFailedError(Exception):
    """One or more tables could not be merged; the batch is repeated from its start."""


class Failures:
    """Stops the tables that failed, or fails the batch.

    Args:
        stopped: keeps the stopped tables.
        previous: how often each table already made its batch fail, by (query, batch, silver table).
    """

    def __init__(
        self,
        steps: TableSteps,
        stopped: Resumption,
        ledger: Ledger,
        previous: Mapping[tuple[str, int, str], int],
    ) -> None:
        self._steps = steps
        self._stopped = stopped
        self._ledger = ledger
        self._previous = previous

    def stop_failed(
        self,
        parts: Sequence[Merged | Failed | Stopped],
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
        claims: Claims,
    ) -> list[Merged | Stopped]:
        """Stop the failed tables; the other parts stay as they are.

        Args:
            events: the events of the batch's first round.
            claims: up to which LSN the tables are complete.
        Raises: BatchFailedError if the failure concerns all tables.
        """
        failed = [part for part in parts if isinstance(part, Failed)]
        others = [part for part in parts if not isinstance(part, Failed)]
        if not failed:
            return others
        attempts, stops = {}, []
        for part in failed:
            name = part.topic.silver_name
            tries = self._previous.get((self._steps.query_id, batch_id, name), 0)
            attempts[name] = Failure(part.error, tries)
            stops.append(Stopped(part.done, self._first_stop(part, batch_id, events, span, claims)))
        worked = sum(isinstance(p, Merged) and p.topic.silver is not None for p in others)
        internal = any(part.topic.internal for part in failed)
        if internal or batch_must_fail(list(attempts.values()), worked):
            self._note_failing(stops, attempts, batch_id)
            raise BatchFailedError(
                f"{len(failed)} of {len(parts)} tables failed; the others are merged\n"
                f"  detail: {failed[0].error}"
            ) from failed[0].error
        now_stopped = [
            replace(part, stop=self._stopped.stop(part.stop, cause.error))
            for part, cause in zip(stops, failed, strict=True)
        ]
        return [*others, *now_stopped]

    def _first_stop(
        self,
        part: Failed,
        batch_id: int,
        events: Mapping[str, list[RawEvent]],
        span: BatchSpan,
        claims: Claims,
    ) -> Stop:
        topic = part.topic
        seen = [(event.partition, event.offset) for event in events.get(topic.name, [])]
        start = first_offsets(span, topic.name, seen)
        # The failed merge may have been committed: repeat the same events under the same name.
        commit = self._steps.batch_commit(topic, batch_id)
        planned = part.planned or Slice(start, span.end[topic.name], commit)
        return Stop(
            topic.name,
            topic.silver_name,
            reason_of(part.error),
            datetime.now(timezone.utc),
            planned.start,
            planned,
            complete_lsn=claims.complete_lsn,
            complete_time=claims.time,
            generation=self._stopped.generation(topic.silver_name),
        )

    def _note_failing(
        self, stops: Sequence[Stopped], attempts: Mapping[str, Failure], batch_id: int
    ) -> None:
        """Count the failures for the process that repeats the batch."""
        tries = {name: attempt.previous + 1 for name, attempt in attempts.items()}
        rows = failing_rows(self._steps.query_id, batch_id, stops, tries)
        if not rows:
            return
        try:
            self._ledger.note(rows)
        except Exception as error:  # noqa: BLE001 - the object store fails, not the table
            log.warning("cannot write the ledger: %s: %s", type(error).__name__, error)

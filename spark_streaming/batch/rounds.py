"""Takes the parts of several tables through the steps of a batch together, in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from spark_streaming.batch.part import Failed, Merged, Prepared, Taken, Validated
from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.events.event import RawEvent


class Rounds:
    """Runs the steps for many tables; a table that fails does not affect the others."""

    def __init__(self, steps: TableSteps, pool: ThreadPoolExecutor) -> None:
        self.steps = steps
        self._pool = pool

    def take(self, batch_id: int, events: Mapping[str, list[RawEvent]]) -> list[Merged | Failed]:
        """Take whole parts of some topics through all steps, in a round after the first."""
        prepared, failed = self.prepare(batch_id, events)
        # The batch's number names the first round's commit in quarantine.
        validated, refused = self.quarantine(prepared, None)
        return [*self.merge(batch_id, validated), *failed, *refused]

    def prepare(
        self, batch_id: int, events: Mapping[str, list[RawEvent]]
    ) -> tuple[list[Prepared], list[Failed]]:
        """Prepare each topic's events. Returns: the prepared parts, and the failed ones."""
        return _apart(
            self.each(lambda item: self._prepared(batch_id, *item), sorted(events.items()))
        )

    def quarantine(
        self, parts: Sequence[Prepared], batch_id: int | None
    ) -> tuple[list[Validated], list[Failed]]:
        """Apply the rules between tables and quarantine the rejects; see `Gate`."""
        validated, failed = _apart(self.steps.gate.validate(parts))
        self.steps.gate.quarantine_rejects(validated, batch_id)
        return validated, failed

    def merge(self, batch_id: int, parts: Sequence[Validated]) -> list[Merged | Failed]:
        """Merge each part in one commit of its table."""
        return self.each(lambda part: self._merged(batch_id, part), parts)

    def each(self, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Run `work` on every item in parallel; wait for all of them before raising a failure."""
        if len(items) == 1:
            return [work(items[0])]
        futures: list[Future[Any]] = [self._pool.submit(work, item) for item in items]
        wait(futures)
        return [future.result() for future in futures]

    def _prepared(self, batch_id: int, name: str, events: list[RawEvent]) -> Prepared | Failed:
        topic = self.steps.topics.named(name, events)
        try:
            commit = self.steps.batch_commit(topic, batch_id)
            return self.steps.prepare(name, events, commit)
        except Exception as error:  # noqa: BLE001 - kept; `Failures` decides
            return Failed(Merged(Taken(topic, len(events), topic.high_water)), error)

    def _merged(self, batch_id: int, part: Validated) -> Merged | Failed:
        try:
            return self.steps.merge(part, self.steps.batch_commit(part.topic, batch_id))
        except Exception as error:  # noqa: BLE001 - kept; `Failures` decides
            done = Merged(part.prepared.taken, len(part.rejects), part.prepared.result)
            return Failed(done, error)


def _apart(parts: Sequence[Any]) -> tuple[list[Any], list[Failed]]:
    failed = [part for part in parts if isinstance(part, Failed)]
    return [part for part in parts if not isinstance(part, Failed)], failed

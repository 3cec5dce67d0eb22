"""The steps of a batch for one table: prepare its events, quarantine the rejects, merge the rest.

To prepare events is to split them where their table changed, decode, fold and judge them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from spark_streaming.batch.gate import Gate
from spark_streaming.batch.ledger_rows import newest
from spark_streaming.batch.part import Failed, Merged, Prepared, Taken, Validated
from spark_streaming.events.contract_versions import Boundary, split_at
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import Decoded, RawEvent, Reject
from spark_streaming.reading.offsets import reached_in, version_of
from spark_streaming.schema.event_plan import ContractChanged
from spark_streaming.schema.topic import Topic
from spark_streaming.schema.topics import Topics
from spark_streaming.tables.engine_protocol import Commit, MergeEngine, MergeResult
from spark_streaming.tables.silver_table import SilverTable

log = logging.getLogger(__name__)
# These cover an object store that fails briefly; a longer failure stops the table or the batch.
RETRY_PAUSES_S = (0.2, 1.0, 3.0)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class TableSteps:
    """The steps of one query's batches, for one table at a time; `engine` merges folded rows."""

    def __init__(self, query_id: str, topics: Topics, gate: Gate, engine: MergeEngine) -> None:
        self.query_id = query_id
        self.topics = topics
        self.gate = gate
        self.engine = engine

    def commit(self, silver_name: str, version: int) -> Commit:
        """The identity of a table's merge; for versions see `offsets.version_of`."""
        return Commit(f"headwater:{self.query_id}:{silver_name}", version)

    def batch_commit(self, topic: Topic, batch_id: int) -> Commit:
        """The identity of the merge of a batch's whole part."""
        return self.commit(topic.silver_name, version_of(batch_id))

    def reached(self, topic: Topic, batch_id: int) -> int:
        """How many of a batch's offsets are merged into the topic's table; WHOLE for all."""
        silver = topic.silver
        if silver is None:
            return 0
        with silver.lock:
            return reached_in(silver.recorded(self.commit(silver.name, 0).app_id), batch_id)

    def contract_of(self, topic: str, *, refresh: bool = False) -> str:
        """A text that changes when a topic's contract or its contract file changes."""
        known = self.topics.named(topic, [])
        stamp = self.gate.contracts.stamp(known.schema, known.table)
        return f"{self.topics.contract_of(topic, refresh=refresh)} {stamp}"

    def take(
        self,
        name: str,
        events: list[RawEvent],
        commit: Commit,
        since: HighWater | None = None,
        *,
        retry: bool = True,
    ) -> Merged:
        """Take some events of one topic through all steps, apart from other tables.

        since, retry: see `prepare` and `merge`. Raises: TableStoppedError.
        """
        return self._finish(self.prepare(name, events, commit, since), commit, retry=retry)

    def _finish(self, prepared: Prepared, commit: Commit, *, retry: bool = True) -> Merged:
        [validated] = self.gate.validate([prepared])
        if isinstance(validated, Failed):
            raise validated.error
        self.gate.quarantine_rejects([validated], None)
        return self.merge(validated, commit, retry=retry)

    def prepare(
        self, name: str, events: list[RawEvent], commit: Commit, since: HighWater | None = None
    ) -> Prepared:
        """Decode, fold and judge some events of one topic.

        Events from before a change of the table are quarantined and merged here, and silver
        follows the change; the other events are not written.

        Args:
            since: the mark before these events; None: the one after the last batch.
        Raises: TableStoppedError if a rule of the contract, or its file, stops the table.
        """
        topic = self.topics.resolve(name, events)
        high_water = topic.high_water if since is None else since
        if topic.refusal and not topic.internal:
            return Prepared(Taken(topic, len(events), high_water, skipped=len(events)))
        left = unmerged(topic, events, commit)
        plan = self.topics.evolver.plan(topic, left)
        # The ledger's Delta version must include the events that are merged already.
        result = _here(topic) if len(left) < len(events) else None
        taken: list[RawEvent] = []
        try:
            for older, change in plan.steps:
                if older:
                    taken += older
                    named = before(topic, commit, change.contract.version, taken, left)
                    done = self._merge_older(topic, older, named, high_water)
                    result = done.result.after(result) if done.result else result
                    high_water = done.taken.high_water
                self.topics.apply_pending(topic)
            result = replace(result, skipped=False) if result else None
            if topic.contract is None:
                return Prepared(Taken(topic, len(events), high_water), plan.rejects, result)
            decoded = self._decode(topic, plan.events, high_water, plan.rejects)
            return self._judge(
                _taken(topic, len(events), decoded, high_water), decoded, commit, result
            )
        except ContractChanged:  # the new contract is known now
            return self.prepare(name, events, commit, since)

    def _merge_older(
        self, topic: Topic, events: list[RawEvent], commit: Commit, since: HighWater
    ) -> Merged:
        """Merge events from before a change of their table."""
        decoded = self._decode(topic, events, since, [])
        return self._finish(self._judge(_taken(topic, 0, decoded, since), decoded, commit), commit)

    def _decode(
        self, topic: Topic, events: list[RawEvent], since: HighWater, rejects: Sequence[Reject]
    ) -> Decoded:
        """Decode events of one version of a table, and add rejects. Raises: ContractChanged."""
        contract = topic.reading
        assert contract is not None
        decoded = decode(events, contract, since)
        if self.topics.follow(topic, decoded.unknown_columns, decoded.stale_columns):
            raise ContractChanged
        if self.topics.evolver.move_border(topic, decoded.rejects):
            raise ContractChanged
        self.topics.evolver.truncated(topic, decoded)
        return replace(decoded, rejects=[*decoded.rejects, *rejects])

    def _judge(
        self, taken: Taken, decoded: Decoded, commit: Commit, result: MergeResult | None = None
    ) -> Prepared:
        """Fold and judge decoded events, unless they are merged already."""
        silver = taken.topic.silver
        if silver is None:
            return Prepared(taken, decoded.rejects, result)
        with silver.lock:
            if silver.has_commit(commit):
                # A second fold would look up rows that this batch has changed.
                there = MergeResult(silver.version(), skipped=True)
                return Prepared(taken, decoded.rejects, there)
            judged = self.gate.judge(taken.topic, decoded)
        source_time = newest(judged.screened.folded.rows)
        return Prepared(taken, judged.screened.rejects, result, judged, source_time)

    def merge(self, part: Validated, commit: Commit, *, retry: bool = True) -> Merged:
        """Merge a part in one commit, and remember its quarantined rows.

        retry: whether to try again after each of RETRY_PAUSES_S.
        """
        prepared, folded, silver = part.prepared, part.folded, part.topic.silver
        done = Merged(
            prepared.taken,
            len(part.rejects),
            prepared.result,
            source_time=prepared.source_time,
        )
        if folded is not None and silver is not None and not folded.is_nothing:
            began = time.monotonic()
            result = merge_retried(
                silver, lambda: self.engine.merge(silver, folded, commit), retry=retry
            )
            done = replace(
                done,
                result=result.after(prepared.result),
                engine=result.engine or self.engine.name,
                seconds=time.monotonic() - began,
            )
        self.gate.remember(part, done.result)
        return done


def merge_retried(
    silver: SilverTable, merge: Callable[[], MergeResult], *, retry: bool = True
) -> MergeResult:
    """Merge under the table's lock; if `retry`, again after each of RETRY_PAUSES_S."""
    for pause in (*(RETRY_PAUSES_S if retry else ()), None):
        try:
            with silver.lock:
                return merge()
        except Exception as error:  # any failure of a merge is tried again
            log.warning("merge of %s failed: %s: %s", silver.name, type(error).__name__, error)
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def taken_of(
    topic: Topic, rows_in: int, high_water: HighWater, skipped: int, last_committed_us: int
) -> Taken:
    """The record of decoded events; `last_committed_us`: microseconds since 1970, 0 for none."""
    seen_time = EPOCH + timedelta(microseconds=last_committed_us) if last_committed_us else None
    return Taken(topic, rows_in, high_water, skipped, seen_time)


def _taken(topic: Topic, rows_in: int, decoded: Decoded, since: HighWater) -> Taken:
    high_water = since.merge(decoded.high_water)
    return taken_of(topic, rows_in, high_water, decoded.skipped, decoded.last_committed_us)


def before(
    topic: Topic, commit: Commit, version: int, taken: list[RawEvent], events: list[RawEvent]
) -> Commit:
    """The identity of the merge of the events from before a table's new contract version.

    A keyless table must never take an event twice, because no key identifies copies of equal rows.
    A later process may know less of the change, so the merge is named by the offset where it ends,
    in the one partition of its topic.

    Args:
        taken: the events merged so far; `events`: all events of the table in this batch. If newer rows of a
            snapshot are mixed with older events, no offset separates the two.
    """
    end = taken[-1].offset + 1
    if _is_counted(topic, events) and sum(e.offset < end for e in events) == len(taken):
        return Commit(_older(commit), end)
    return Commit(f"{commit.app_id}:before_version_{version}", commit.version)


def _older(commit: Commit) -> str:
    return f"{commit.app_id}:older"


def _is_counted(topic: Topic, events: list[RawEvent]) -> bool:
    is_keyless = topic.contract is not None and topic.contract.is_keyless
    return is_keyless and {event.partition for event in events} == {0}


def _here(topic: Topic) -> MergeResult | None:
    """The current version of a table that has merged a part of the batch already."""
    if topic.silver is None:
        return None
    with topic.silver.lock:
        return MergeResult(topic.silver.version())


def unmerged(topic: Topic, events: list[RawEvent], commit: Commit) -> list[RawEvent]:
    """Leave out events that an earlier attempt of this batch merged before a change of the table.

    That attempt was interrupted after the merge, before or after the table followed the change.
    """
    contract, silver = topic.contract, topic.silver
    if contract is None or silver is None:
        return events
    if _is_counted(topic, events):
        with silver.lock:
            reached = silver.recorded(_older(commit))
        events = [event for event in events if event.offset >= reached]
    chain = (*contract.previous_versions, contract)
    for older, newer in pairwise(chain):
        name = Commit(f"{commit.app_id}:before_version_{newer.version}", commit.version)
        with silver.lock:
            merged = silver.has_commit(name)
        if merged:
            _, events = split_at(events, Boundary.between(older, newer))
    return events

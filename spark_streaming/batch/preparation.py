"""Prepares one table's events for a merge: splits them at schema changes, decodes them, applies rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from spark_streaming.batch.gate import Gate
from spark_streaming.batch.ledger_rows import newest
from spark_streaming.batch.part import Part
from spark_streaming.events.contract_versions import Boundary, split_at
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.schema.event_plan import ContractChanged
from spark_streaming.schema.topics import Topic, Topics
from spark_streaming.tables.engine_protocol import Commit, MergeResult

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Preparation:
    """Prepares parts of a batch.

    `merge` merges a prepared part in one commit; it is used only for events from before a change
    of the table, while the rest is prepared.
    """

    def __init__(self, topics: Topics, gate: Gate, merge: Callable[[Part, Commit], None]) -> None:
        self._topics = topics
        self._gate = gate
        self._merge = merge

    def prepare(
        self, name: str, events: list[RawEvent], commit: Commit, since: HighWater | None = None
    ) -> Part:
        """Decode and fold some events of one topic.

        Events from before a change of the table are quarantined and merged here; of the others
        nothing is written.

        since: where the events begin, if not where the last batch ended.

        Raises: TableStoppedError where a rule of the contract, or its file, stops the table.
        """
        topic = self._topics.resolve(name, events)
        high_water = topic.high_water if since is None else since
        part = Part(topic, len(events), high_water=high_water)
        if topic.refusal and not topic.internal:
            part.skipped = len(events)
            return part
        left = unmerged(topic, events, commit)
        plan = self._topics.evolver.plan(topic, left)
        # The ledger's Delta version has to include what is merged before the rest.
        done = Part(topic, 0, result=_here(topic)) if len(left) < len(events) else Part(topic, 0)
        taken: list[RawEvent] = []
        try:
            for older, change in plan.steps:
                if older:
                    taken += older
                    named = before(topic, commit, change.contract.version, taken, left)
                    done = done.followed_by(self._merge_older(topic, older, named, high_water))
                    high_water = done.high_water
                self._topics.apply_pending(topic)
            part.result = replace(done.result, skipped=False) if done.result else None
            if topic.contract is None:
                part.rejects = plan.rejects
                return part
            return self._folded(part, plan.events, commit, high_water, plan.rejects)
        except ContractChanged:  # it is known by now
            return self.prepare(name, events, commit, since)

    def _merge_older(
        self, topic: Topic, events: list[RawEvent], commit: Commit, since: HighWater
    ) -> Part:
        """Merge events from before a change of their table. Returns: the part with the new marks."""
        part = self._folded(Part(topic, 0), events, commit, since, [])
        self.quarantine_rejects(part)
        self._merge(part, commit)
        self._gate.remember(part)
        return part

    def _folded(
        self,
        part: Part,
        events: list[RawEvent],
        commit: Commit,
        high_water: HighWater,
        rejects: list[Reject],
    ) -> Part:
        """Decode, fold and judge events of one version of a table."""
        topic = part.topic
        contract = topic.reading
        assert contract is not None
        decoded = decode(events, contract, high_water)
        if self._topics.follow(topic, decoded.unknown_columns, decoded.stale_columns):
            raise ContractChanged
        if self._topics.evolver.move_border(topic, decoded.rejects):
            raise ContractChanged
        self._topics.evolver.truncated(topic, decoded)
        decoded = replace(decoded, rejects=[*decoded.rejects, *rejects])
        part.high_water, part.skipped = high_water.merge(decoded.high_water), decoded.skipped
        if decoded.last_committed_us:
            part.seen_time = EPOCH + timedelta(microseconds=decoded.last_committed_us)
        part.rejects = list(decoded.rejects)
        silver = topic.silver
        if silver is None:
            return part
        with silver.lock:
            if silver.has_commit(commit):
                # Folding again would look up rows as this very batch left them.
                part.result = MergeResult(silver.version(), skipped=True)
                return part
            self._gate.screen(part, decoded)
        part.source_time = newest(part.folded.rows) if part.folded is not None else None
        return part

    def quarantine_rejects(self, part: Part) -> None:
        """Run step 2 for one table alone; it may be repeated. Raises: TableStoppedError."""
        self._gate.apply_references([part])
        if part.failure is not None:
            raise part.failure
        self._gate.quarantine_rejects([part], None)


def before(
    topic: Topic, commit: Commit, version: int, taken: list[RawEvent], events: list[RawEvent]
) -> Commit:
    """The identity of the merge that ends before a table follows a version of its contract.

    No key identifies copies of equal rows, so a keyless table must never take such events twice,
    whatever a later process knows of the change: its merge is named by the offset that it ends
    at, in the one partition of its topic.

    Args:
        taken: what is merged by then; `events`: all of the table in this batch. A snapshot's rows
            may be of the newer version amid older events: then no offset separates them.
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
    """The current version of the table, which has a part of the batch already."""
    if topic.silver is None:
        return None
    with topic.silver.lock:
        return MergeResult(topic.silver.version())


def unmerged(topic: Topic, events: list[RawEvent], commit: Commit) -> list[RawEvent]:
    """Leave out events that this very batch merged before its table followed a change.

    A batch that was cut after that merge is repeated, before or after the table has followed.
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

"""One table's events on their way to a merge: parted where the table changed, decoded, judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from spark_streaming.engines.protocol import Commit, MergeResult
from spark_streaming.envelope import HighWater, decode
from spark_streaming.events import RawEvent, Reject
from spark_streaming.evolver import ContractChanged
from spark_streaming.gate import Gate
from spark_streaming.ledger_rows import newest
from spark_streaming.part import Part
from spark_streaming.topics import Topic, Topics
from spark_streaming.versions import Boundary, split_at

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Preparation:
    """Prepares parts of a batch.

    `merge` merges a prepared part in one commit: what is before a change of a table, and only
    that, is merged while the rest is prepared.
    """

    def __init__(self, topics: Topics, gate: Gate, merge: Callable[[Part, Commit], None]) -> None:
        self._topics = topics
        self._gate = gate
        self._merge = merge

    def prepare(
        self, name: str, events: list[RawEvent], commit: Commit, since: HighWater | None = None
    ) -> Part:
        """Decode and fold some events of one topic; nothing is written.

        since: where the events begin, if not where the last batch ended.

        Raises: TableStoppedError where a rule of the contract, or its file, stops the table.
        """
        topic = self._topics.resolve(name, events)
        high_water = topic.high_water if since is None else since
        part = Part(topic, len(events), high_water=high_water)
        if topic.refusal and not topic.internal:
            part.skipped = len(events)
            return part
        turn = self._topics.evolver.turn(topic, unmerged(topic, events, commit))
        try:
            for older, change in turn.steps:
                if older:
                    named = before(commit, change.contract.version)
                    high_water = self._merge_older(topic, older, named, high_water)
                self._topics.take_up(topic)
            if topic.contract is None:
                part.rejects = turn.rejects
                return part
            return self._folded(part, turn.events, commit, high_water, turn.rejects)
        except ContractChanged:  # it is known by now
            return self.prepare(name, events, commit, since)

    def _merge_older(
        self, topic: Topic, events: list[RawEvent], commit: Commit, since: HighWater
    ) -> HighWater:
        """Merge what is before a change of a table; the new marks."""
        part = self._folded(Part(topic, 0), events, commit, since, [])
        self.set_aside(part)
        self._merge(part, commit)
        self._gate.remember(part)
        return part.high_water

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

    def set_aside(self, part: Part) -> None:
        """Step 2 for one table alone, that may be repeated. Raises: TableStoppedError."""
        self._gate.look_around([part])
        if part.failure is not None:
            raise part.failure
        self._gate.put_aside([part], None)


def before(commit: Commit, version: int) -> Commit:
    """The identity of the merge that ends before a table follows a version of its contract."""
    return Commit(f"{commit.app_id}:before_version_{version}", commit.version)


def unmerged(topic: Topic, events: list[RawEvent], commit: Commit) -> list[RawEvent]:
    """The events without those that this very batch merged before its table followed a change.

    A batch that was cut behind that merge comes again when the table has followed.
    """
    contract, silver = topic.contract, topic.silver
    if contract is None or silver is None or not contract.earlier:
        return events
    chain = (*contract.earlier, contract)
    for older, newer in pairwise(chain):
        with silver.lock:
            merged = silver.has_commit(before(commit, newer.version))
        if merged:
            _, events = split_at(events, Boundary.between(older, newer))
    return events

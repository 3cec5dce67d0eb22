"""A model of source, connector, Kafka, Spark's plans and a job that is killed, for its claims.

Only offsets and positions: an event is (log position of its commit, the commit before it). What of
the job decides how far silver is complete is the job's own code (`claims`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from spark_streaming.batch.completeness import Claims
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.reading.offsets import BatchSpan, Offsets

BEATS = "hw.headwater.heartbeat"
TOPICS = {BEATS: 1, "hw.public.a": 1, "hw.public.b": 2, "hw.public.c": 1}


class Killed(Exception):
    """The process died here."""


@dataclass
class Record:
    """An event; `commit` 0 is a marker's offset. `open`: of a transaction that has no marker yet."""

    commit: int
    last_commit: int
    open: bool = True


@dataclass
class Row:
    """A row of the ledger. `claims` is `complete_lsn`; `topic` is empty for the whole batch."""

    batch: int
    topic: str
    offsets: Offsets
    seen: Lsn
    claims: Lsn | None = None


@dataclass
class Kafka:
    """Partitions of records, written in transactions; markers may be late, partition by partition."""

    random: Random
    log: dict[tuple[str, int], list[Record]] = field(
        default_factory=lambda: {(t, p): [] for t, count in TOPICS.items() for p in range(count)}
    )
    late: list[tuple[str, int]] = field(default_factory=list)

    def write(self, events: list[tuple[str, int, Record]], late: float) -> None:
        """One transaction; its markers come at once, or with `late` later ones."""
        touched = sorted({(topic, partition) for topic, partition, _ in events})
        for topic, partition, record in events:
            self.log[topic, partition].append(record)
        for place in touched:
            if self.random.random() < late:
                self.late.append(place)
            else:
                self.end(place)

    def end(self, place: tuple[str, int]) -> None:
        """The marker of what is open in a partition."""
        for record in self.log[place]:
            record.open = False
        self.log[place].append(Record(0, 0, open=False))

    def end_some(self) -> None:
        """Some of the late markers are written."""
        for place in [one for one in self.late if self.random.random() < 0.08]:
            self.late.remove(place)
            self.end(place)

    def stable(self, place: tuple[str, int]) -> int:
        """The last stable offset."""
        log = self.log[place]
        return next((n for n, record in enumerate(log) if record.open), len(log))

    def written(self) -> Offsets:
        """As `kafka_source.WrittenEnds`."""
        found: Offsets = {}
        for (topic, partition), log in self.log.items():
            found.setdefault(topic, {})[partition] = len(log)
        return found


class World:
    """A source that commits, its stream, and a job that is killed at any step and goes on."""

    def __init__(self, random: Random, *, asks: bool = True) -> None:
        self.random, self.asks = random, asks
        self.kafka = Kafka(random)
        self.lsn = 1000
        self.last_commit = 900
        self.ledger: list[Row] = []
        self.recorded = -1
        self.plans: dict[int, BatchSpan] = {}
        self.merged: dict[tuple[str, int], int] = dict.fromkeys(self.kafka.log, 0)
        self.limit = 10_000
        self.batch = 0
        self.restart()

    # -- source, connector and Kafka

    def commit(self) -> None:
        """Some transactions of the source, sent in one of Kafka's."""
        events = []
        for _ in range(self.random.randint(1, 3)):
            self.lsn += self.random.randint(1, 9)
            for topic in self.random.sample(sorted(TOPICS), self.random.randint(1, 2)):
                for _ in range(self.random.choice([1, 1, 1, 4])):
                    partition = self.random.randrange(TOPICS[topic])
                    events.append((topic, partition, Record(self.lsn, self.last_commit)))
            self.last_commit = self.lsn
        self.kafka.write(events, late=self.random.choice([0.0, 0.0, 0.3]))

    def live(self) -> None:
        """Whatever may happen between two steps of the job."""
        for _ in range(self.random.choice([0, 0, 0, 1])):
            self.commit()
        self.kafka.end_some()

    def may_die(self) -> None:
        if self.random.random() < 0.08:
            raise Killed

    # -- Spark and the job

    def restart(self) -> None:
        """A new process: it knows the ledger, and Spark its plans."""
        self.limit = self.random.choice([6, 10, 20, 10_000])
        claimed = [row.claims for row in self.ledger if not row.topic and row.claims]
        self.seen = max((row.seen for row in self.ledger), default=LOG_START)
        ends = self.kafka.written if self.asks else None
        self.claims = Claims(max(claimed, default=None), None, self.seen or None, ends)

    def plan(self) -> BatchSpan:
        """As Spark: the plan that there is, else the stable offsets, each listed at its moment."""
        if self.batch in self.plans:
            return self.plans[self.batch]
        before = self.plans.get(self.batch - 1)
        start = {
            t: {p: before.end[t][p] if before else 0 for p in range(TOPICS[t])} for t in TOPICS
        }
        available: Offsets = {}
        for topic, partition in self.random.sample(sorted(self.kafka.log), len(self.kafka.log)):
            if self.random.random() < 0.3:
                self.live()
            available.setdefault(topic, {})[partition] = self.kafka.stable((topic, partition))
        self.plans[self.batch] = BatchSpan(start, _limited(start, available, self.limit))
        return self.plans[self.batch]

    def run_batch(self) -> None:
        """One batch through the protocol; raises Killed anywhere."""
        span = self.plan()
        self.may_die()
        if self.recorded >= self.batch:
            self.batch += 1
            return
        self.live()
        self.claims.begin()
        for topic in self.random.sample(sorted(TOPICS), len(TOPICS)):
            if self.random.random() < 0.2:  # a stopped table, which notes its steps
                self.ledger.append(Row(self.batch, topic, {}, self._seen_in(span, [topic])))
            for partition, end in span.end[topic].items():
                self.merged[topic, partition] = max(end, self.merged[topic, partition])
            self.live()
            self.may_die()
        self.claims.prove(span.end)
        self.seen = max(self.seen, self._seen_in(span, list(TOPICS)))
        self.ledger.append(Row(self.batch, "", span.end, self.seen, self.claims.complete_lsn))
        self.recorded = self.batch
        self.check()
        self.may_die()
        self.claims.merged(self.seen or None, None)
        self.batch += 1

    def _seen_in(self, span: BatchSpan, topics: list[str]) -> Lsn:
        found = [
            record.last_commit
            for topic in topics
            for partition, end in span.end[topic].items()
            for record in self.kafka.log[topic, partition][span.start[topic][partition] : end]
        ]
        return Lsn(max(found, default=0))

    def check(self) -> None:
        """Silver at the ledger's newest row has all that was committed up to its `complete_lsn`."""
        claimed = self.ledger[-1].claims or 0
        for place, log in self.kafka.log.items():
            lacking = [r.commit for r in log[self.merged[place] :] if 0 < r.commit <= claimed]
            assert not lacking, f"complete to {claimed}, but {place} lacks commit {lacking[0]}"

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.live()
            try:
                self.run_batch()
            except Killed:
                self.restart()

    def rest(self) -> None:
        """All markers are written, and heartbeats follow each other: silver catches up."""
        for place in self.kafka.late:
            self.kafka.end(place)
        self.kafka.late.clear()
        self.limit = 10_000
        for _ in range(4):
            self.lsn += 1
            self.kafka.write([(BEATS, 0, Record(self.lsn, self.last_commit))], late=0.0)
            self.last_commit = self.lsn
            self.live = self.may_die = lambda: None  # type: ignore[method-assign]
            self.run_batch()


def _limited(start: Offsets, available: Offsets, limit: int) -> Offsets:
    """As `KafkaMicroBatchStream.rateLimit`: shares by size, rounded down, those below 1 up."""
    sizes = {
        (t, p): end - start[t][p]
        for t, partitions in available.items()
        for p, end in partitions.items()
        if end > start[t][p]
    }
    total = sum(sizes.values())
    end = {t: dict(partitions) for t, partitions in available.items()}
    for (topic, partition), size in sizes.items():
        share = limit * (size / total)
        whole = math.ceil(share) if share < 1 else math.floor(share)
        begin = start[topic][partition]
        end[topic][partition] = min(begin + whole, available[topic][partition])
    return end

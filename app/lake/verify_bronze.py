"""Verify bronze: every committed offset of every topic is there exactly once.

Each partition is read once, from its first object to where Kafka's end was at the start, beside
what Kafka still has of it (`bronze_check`). What Kafka's end holds and bronze does not have yet
is waited for LAG_S seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from kafka import TopicPartition

from app.cli.printing import Steps, print_rows
from app.errors import HeadwaterError
from app.lake import tail
from app.lake.bronze import Bronze, Line, UnreadableObjectError, first_offset, record_digest
from app.lake.bronze_check import Committed, Finding, Gap, PartitionReport, check_partition
from app.lake.lakehouse import Lakehouse
from app.lake.streams import declared_streams
from app.lake.verify import captured_tables, told_apart
from app.lake.verify_progress import Progress
from app.lake.verify_state import FOLDER
from app.settings import Settings, load, write_private
from spark_streaming.naming import topic_of

LAG_S = 60.0
LAG_LOOK_S = 0.5
# Kafka keeps a bounded amount; nobody waits for longer than this for one partition of it.
KAFKA_READ_S = 3_600.0
COLUMNS = (
    "topic",
    "partition",
    "verdict",
    "first_offset",
    "last_offset",
    "records",
    "objects",
    "in_kafka",
    "missing",
    "repeated",
    "wrong",
    "seconds",
)
_MISSING = ("missing", "gap")
_REPEATED = ("repeat",)
_WRONG = ("differs", "uncommitted", "misplaced", "unreadable")


@dataclass(frozen=True)
class PartitionVerdict:
    """One partition and what was found in it."""

    topic: str
    partition: int
    report: PartitionReport
    seconds: float

    def as_row(self) -> tuple[Any, ...]:
        """The verdict as COLUMNS."""
        found = self.report
        counts = [
            sum(found.counts.get(kind, 0) for kind in kinds)
            for kinds in (_MISSING, _REPEATED, _WRONG)
        ]
        word = "complete" if found.complete else "broken"
        place = (self.topic, self.partition, word, found.first, found.last)
        read = (found.records, found.objects, found.compared)
        return (*place, *read, *counts, round(self.seconds, 2))


def run_verify_bronze(tables: list[str], fmt: str) -> int:
    """Verify bronze and print one row a partition on stdout; what is wrong goes to stderr.

    Args:
        tables: silver's names of the tables whose topics to check; all topics when empty.
    Returns: 0 only where every partition is complete.
    """
    settings = load()
    with Steps() as steps:
        progress = Progress(steps.waiting, what="bronze records")
        try:
            verdicts = BronzeVerifier(settings, steps.note, progress).verify(tables)
        finally:
            steps.rest()
    print_rows(COLUMNS, [verdict.as_row() for verdict in verdicts], fmt)
    for verdict in verdicts:
        for finding in verdict.report.findings:
            place = f"{verdict.topic} partition {verdict.partition}"
            print(f"{place}: {finding.told()}", file=sys.stderr)
    return 0 if all(verdict.report.complete for verdict in verdicts) else 1


class BronzeVerifier:
    """Verifies the bronze of one stack."""

    def __init__(self, settings: Settings, note: Callable[[str], None], progress: Progress) -> None:
        self._settings = settings
        self._bronze = Bronze(Lakehouse(settings).bronze_files())
        self._note = note
        self._progress = progress
        self._explained = ExplainedGaps(settings.home / FOLDER / "bronze.json")

    def verify(self, tables: list[str]) -> list[PartitionVerdict]:
        """Verify the topics of `tables`, or all topics of the prefix, in the order of their names.

        Raises: HeadwaterError where a part cannot be reached, or a table is not captured.
        """
        with told_apart():
            consumer = tail.open_consumer(self._settings.kafka)
            try:
                places = self._places(consumer, self._wanted(tables))
                spans = self._spans(consumer, places)
                verdicts = []
                for place, (begin, end) in spans.items():
                    self._note(f"verify bronze {place.topic} partition {place.partition}")
                    started = time.monotonic()
                    report = self._partition(consumer, place, begin, end)
                    took = time.monotonic() - started
                    verdicts.append(PartitionVerdict(place.topic, place.partition, report, took))
            finally:
                consumer.close()
        return verdicts

    def _wanted(self, tables: list[str]) -> set[str] | None:
        if not tables:
            return None
        prefix = self._settings.topic_prefix
        names = captured_tables(self._settings)
        topics = {table: topic_of(prefix, *name) for table, name in names.items()}
        for stream in declared_streams(self._settings).values():
            topics.setdefault(stream.name, stream.topic(prefix))
        unknown = sorted(set(tables) - topics.keys())
        if unknown:
            raise HeadwaterError(
                f"not captured: {', '.join(unknown)}",
                detail=f"the publication holds: {', '.join(sorted(names)) or 'no table'}",
                hint="leave the names out to check every topic that bronze has",
            )
        return {topics[table] for table in tables}

    def _places(self, consumer: Any, wanted: set[str] | None) -> list[TopicPartition]:
        """The partitions that bronze or Kafka has of the wanted topics, or of the prefix."""
        prefix = f"{self._settings.topic_prefix}."
        found: set[TopicPartition] = set()
        for topic in self._bronze.topics():
            found |= {TopicPartition(topic, p) for p in self._bronze.partitions(topic)}
        for topic in consumer.topics():
            found |= set(tail.partitions(consumer, topic))
        return sorted(
            place
            for place in found
            if (place.topic in wanted if wanted is not None else place.topic.startswith(prefix))
        )

    def _spans(
        self, consumer: Any, places: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """For each partition the offsets that Kafka has: first, and behind the last."""
        there = set(consumer.topics())
        known = [place for place in places if place.topic in there]
        begins, ends = consumer.beginning_offsets(known), consumer.end_offsets(known)
        spans = {}
        for place in places:
            # A topic that only bronze has: nothing bounds it, and nothing can be compared.
            begin, end = begins.get(place, sys.maxsize), ends.get(place, sys.maxsize)
            spans[place] = (begin, end)
            if end != sys.maxsize:
                self._progress.expect(f"{place.topic}/{place.partition}", end)
        return spans

    def _partition(
        self, consumer: Any, place: TopicPartition, begin: int, end: int
    ) -> PartitionReport:
        name = f"{place.topic}/{place.partition}"
        unreadable: list[Finding] = []
        committed = self._committed(consumer, place, begin, end) if end != sys.maxsize else iter(())
        last_known = self._last_committed(consumer, place, begin, end)
        # The reader of the last record has moved the consumer: `committed` seeks anew.
        lines = self._lines(place, end, last_known, unreadable)
        report = check_partition(
            self._progress.counted(name, lines),
            committed,
            begin,
            explained=self._explained.of(place.topic, place.partition),
        )
        for finding in unreadable:
            report.add(finding)
            report.objects += 1
        self._explained.keep(place.topic, place.partition, report.explained)
        self._progress.finished(name)
        return report

    def _committed(
        self, consumer: Any, place: TopicPartition, begin: int, end: int
    ) -> Iterator[Committed]:
        for event in tail.read_between(
            consumer,
            place.topic,
            {place.partition: begin},
            {place.partition: end},
            deadline_s=KAFKA_READ_S,
        ):
            digest = record_digest(event.timestamp_ms, event.headers, event.key, event.value)
            yield Committed(event.offset, digest)

    def _lines(
        self, place: TopicPartition, end: int, last_known: int, unreadable: list[Finding]
    ) -> Iterator[Line]:
        """Bronze's lines below `end`; waits a while for those up to `last_known`."""
        seen, last = "", -1
        limit = time.monotonic() + LAG_S
        while True:
            for path in self._bronze.objects(place.topic, place.partition, after=seen):
                seen = path
                if first_offset(path) >= end:
                    return
                try:
                    for line in self._bronze.lines(path):
                        if line.offset < end:
                            yield line
                            last = max(last, line.offset)
                except UnreadableObjectError as error:
                    at = first_offset(path)
                    unreadable.append(Finding("unreadable", at, at, 1, str(error)))
                    last = max(last, at)
            if last >= last_known or time.monotonic() > limit:
                return
            time.sleep(LAG_LOOK_S)

    def _last_committed(self, consumer: Any, place: TopicPartition, begin: int, end: int) -> int:
        """The offset of the last record that Kafka delivers; -1 where it has none."""
        if end == sys.maxsize:
            return -1
        # Before the end may stand markers and aborted records: look further back each time.
        back = 1_000
        while True:
            start = max(begin, end - back)
            last = -1
            for record in self._committed(consumer, place, start, end):
                last = record.offset
            if last >= 0 or start == begin:
                return last
            back *= 10


class ExplainedGaps:
    """Gaps in the offsets that Kafka showed to be none while it could; kept in the home."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, list[list[int]]]] = {}
        with suppress(FileNotFoundError, orjson.JSONDecodeError):
            self._known = orjson.loads(path.read_bytes())

    def of(self, topic: str, partition: int) -> list[Gap]:
        """The gaps (first, last) of one partition."""
        return [(a, b) for a, b in self._known.get(topic, {}).get(str(partition), [])]

    def keep(self, topic: str, partition: int, gaps: list[Gap]) -> None:
        """Remember one partition's gaps."""
        if gaps and gaps != self.of(topic, partition):
            self._known.setdefault(topic, {})[str(partition)] = [list(gap) for gap in gaps]
            write_private(self._path, orjson.dumps(self._known).decode())

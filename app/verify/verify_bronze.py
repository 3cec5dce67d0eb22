"""Verifies that bronze has every committed offset of every topic exactly once.

Each partition of bronze is read once, together with the records that Kafka still has
(`bronze_check`): from its first object to the end that Kafka had at the start. The check waits up
to LAG_S seconds for records that the sink has not written yet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from kafka import TopicPartition

from app.counts.count_report import message
from app.counts.count_verification import count_all
from app.counts.tally import Miscount
from app.environment.settings import Settings, load, write_private
from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from app.lake.lakehouse import Lakehouse
from app.lake.stream_tables import declared_streams
from app.printing import Steps, print_rows
from app.verify.bronze_check import (
    FINDINGS_SHOWN,
    Committed,
    Finding,
    Gap,
    PartitionReport,
    check_partition,
)
from app.verify.bronze_records import (
    Bronze,
    Line,
    UnreadableObjectError,
    first_offset,
    record_digest,
)
from app.verify.table_verification import named_failures
from app.verify.verify_progress import Progress
from app.verify.verify_state import FOLDER
from app.verify.verify_uncompared import captured_tables, in_silver
from spark_streaming.contract.names import topic_of
from spark_streaming.reading.bronze_names import packed_span

LAG_S = 60.0
LAG_POLL_S = 0.5
# Kafka keeps a limited amount, so reading one partition of it takes no longer.
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
    "miscounted",
    "seconds",
)
_MISSING = ("missing", "gap")
_REPEATED = ("repeat",)
_WRONG = ("differs", "uncommitted", "misplaced", "unreadable")


@dataclass(frozen=True)
class PartitionVerdict:
    """The result of one partition."""

    topic: str
    partition: int
    report: PartitionReport
    seconds: float
    miscounted: Sequence[Miscount] = ()  # those of the whole topic, with its first partition

    @property
    def complete(self) -> bool:
        return self.report.complete and not self.miscounted

    def as_row(self) -> tuple[Any, ...]:
        """Return the values of COLUMNS."""
        report = self.report
        counts = [
            sum(report.counts.get(kind, 0) for kind in kinds)
            for kinds in (_MISSING, _REPEATED, _WRONG)
        ]
        word = "complete" if self.complete else "broken"
        place = (self.topic, self.partition, word, report.first, report.last)
        read = (report.records, report.objects, report.compared)
        return (*place, *read, *counts, len(self.miscounted), round(self.seconds, 2))


def run_verify_bronze(tables: list[str], fmt: str) -> int:
    """Verify bronze, print one row for each partition on stdout, and list findings on stderr.

    Args:
        tables: silver's names of the tables whose topics to check; all topics if empty.
    Returns: 0 if every partition is complete, else 1.
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
        place = f"{verdict.topic} partition {verdict.partition}"
        if verdict.report.erased:
            print(
                f"{place}: {verdict.report.erased} erased events keep their places", file=sys.stderr
            )
        if verdict.report.kept_from:
            print(
                f"{place}: events before offset {verdict.report.kept_from} were deleted by age (bronze_keep_days)",
                file=sys.stderr,
            )
        for finding in verdict.report.findings:
            print(f"{place}: {finding.message()}", file=sys.stderr)
        for wrong in verdict.miscounted[:FINDINGS_SHOWN]:
            print(message(wrong, settings.topic_prefix), file=sys.stderr)
    return 0 if all(verdict.complete for verdict in verdicts) else 1


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

        Raises: HeadwaterError if Kafka or the object store does not answer, or a table is not
            captured.
        """
        with named_failures():
            consumer = tail.open_consumer(self._settings.kafka)
            try:
                places = self._places(consumer, self._wanted(tables))
                if not places and not tables:
                    raise HeadwaterError(
                        "there is nothing to check: neither bronze nor Kafka has a topic",
                        detail=f"looked for topics {self._settings.topic_prefix}.*",
                        hint="`./headwater preflight` says which tables are captured",
                    )
                spans = self._spans(consumer, places)
                verdicts = []
                for place, (begin, end) in spans.items():
                    self._note(f"verify bronze {place.topic} partition {place.partition}")
                    started = time.monotonic()
                    report = self._partition(consumer, place, begin, end)
                    took = time.monotonic() - started
                    verdicts.append(PartitionVerdict(place.topic, place.partition, report, took))
                return self._counted(consumer, tables, verdicts)
            finally:
                consumer.close()

    def _counted(
        self, consumer: Any, tables: list[str], verdicts: list[PartitionVerdict]
    ) -> list[PartitionVerdict]:
        """Add the wrong counts of transactions, each topic's to the verdict of its first partition."""
        self._note("verify bronze: counting the events of its transactions")
        settings = self._settings
        prefix = settings.topic_prefix
        topics = {verdict.topic for verdict in verdicts} if tables else None
        try:
            wrong_counts = count_all(settings.kafka, consumer, self._bronze, prefix, topics)
        except HeadwaterError as error:
            if all(verdict.complete for verdict in verdicts):
                raise
            self._note(str(error))
            return verdicts
        wrong: dict[str, list[Miscount]] = {}
        for one in wrong_counts:
            wrong.setdefault(one.topic, []).append(one)
        verdicts = [replace(one, miscounted=wrong.pop(one.topic, ())) for one in verdicts]
        # Topics that have no records in bronze or in Kafka.
        empty = [PartitionVerdict(t, 0, PartitionReport(), 0.0, w) for t, w in wrong.items()]
        return verdicts + empty

    def _wanted(self, tables: list[str]) -> set[str] | None:
        if not tables:
            return None
        prefix = self._settings.topic_prefix
        names = captured_tables(self._settings)
        tables = in_silver(names, tables)
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
        """List the partitions, in bronze or Kafka, of the wanted topics or of the prefix."""
        prefix = f"{self._settings.topic_prefix}."
        places: set[TopicPartition] = set()
        for topic in self._bronze.topics():
            places |= {TopicPartition(topic, p) for p in self._bronze.partitions(topic)}
        for topic in consumer.topics():
            places |= set(tail.partitions(consumer, topic))
        return sorted(
            place
            for place in places
            if (place.topic in wanted if wanted is not None else place.topic.startswith(prefix))
        )

    def _spans(
        self, consumer: Any, places: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return Kafka's offsets of each partition: the first, and the one after the last."""
        there = set(consumer.topics())
        known = [place for place in places if place.topic in there]
        begins, ends = consumer.beginning_offsets(known), consumer.end_offsets(known)
        spans = {}
        for place in places:
            # A topic that only bronze has is read to its end without a comparison.
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
        # Reading the last record has moved the consumer, so `committed` seeks again.
        lines = self._lines(place, end, last_known, unreadable)
        report = check_partition(
            self._progress.counted(name, lines),
            committed,
            begin,
            explained=self._explained.of(place.topic, place.partition),
            kept_from=self._bronze.kept_from(place.topic, place.partition),
        )
        for finding in unreadable:
            report.add(finding)
            report.objects += 1
        self._explained.save(place.topic, place.partition, report.explained)
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
        """Yield bronze's lines below `end`; wait up to LAG_S seconds for those up to `last_known`."""
        seen, last = "", -1
        limit = time.monotonic() + LAG_S
        while True:
            for path in self._bronze.objects(place.topic, place.partition, after=seen):
                seen = path
                if first_offset(path) >= end:
                    return
                try:
                    packed = packed_span(path) is not None
                    for line in self._bronze.lines(path):
                        if packed and line.offset <= last:
                            continue  # read before its object was packed
                        if line.offset < end:
                            yield line
                            last = max(last, line.offset)
                except UnreadableObjectError as error:
                    at = first_offset(path)
                    unreadable.append(Finding("unreadable", at, at, 1, str(error)))
                    last = max(last, at)
            if last >= last_known or time.monotonic() > limit:
                return
            time.sleep(LAG_POLL_S)

    def _last_committed(self, consumer: Any, place: TopicPartition, begin: int, end: int) -> int:
        """Return the offset of the last record that Kafka delivers; -1 if it has none."""
        if end == sys.maxsize:
            return -1
        # Markers and aborted records may precede the end: read further back each time.
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
    """Gaps in the offsets that Kafka has shown to hold no record; kept in the home.

    Kafka can show this only until it expires the records around the gap.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, list[list[int]]]] = {}
        with suppress(FileNotFoundError, orjson.JSONDecodeError):
            self._known = orjson.loads(path.read_bytes())

    def of(self, topic: str, partition: int) -> list[Gap]:
        """Return the gaps (first, last) of one partition."""
        return [(a, b) for a, b in self._known.get(topic, {}).get(str(partition), [])]

    def save(self, topic: str, partition: int, gaps: list[Gap]) -> None:
        """Save one partition's gaps."""
        if gaps and gaps != self.of(topic, partition):
            self._known.setdefault(topic, {})[str(partition)] = [list(gap) for gap in gaps]
            write_private(self._path, orjson.dumps(self._known).decode())

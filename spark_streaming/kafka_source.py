"""Reading a batch's change events from Kafka: directly for small batches, through Spark else.

Spark plans each batch and keeps its offsets. Reading ten topics of a small batch as a Spark job
costs 0.65 CPU-seconds (a task a partition); the same offsets read by one consumer in the driver
0.01, and 30 microseconds a record. So small batches are read directly, between exactly the
offsets that Spark planned, and what they hold never passes through the JVM's heap.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from spark_streaming.archive import Archive, NotArchivedError
from spark_streaming.events import RawEvent
from spark_streaming.offsets import BatchSpan, Offsets
from spark_streaming.settings import SilverSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)
Events = dict[str, list[RawEvent]]
# Without any progress for so long the read is given up.
DIRECT_STALL_S = 20.0
_POLL_MS = 100
_EARLIEST = -2
_POLL_RECORDS_MAX = 10_000
# What a read through Spark gives.
RAW_COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")


class DirectReadError(Exception):
    """The events of a batch could not be read directly; Spark is asked then."""


class ExpiredError(DirectReadError):
    """Kafka does not have the events any more; the text says from where on it has them."""


def kafka_options(settings: SilverSettings) -> dict[str, str]:
    """Options that every read of change events through Spark shares."""
    return {
        "kafka.bootstrap.servers": settings.kafka,
        "includeHeaders": "true",
        # Open and aborted transactions of the source connector are not there.
        "kafka.isolation.level": "read_committed",
        "kafka.metadata.max.age.ms": "5000",
        "kafka.fetch.max.wait.ms": "10",
    }


class TooManyBytesError(Exception):
    """The events of a span take more memory than the driver gives them."""


class DirectReader:
    """One consumer of the driver's own; it has no group and commits nothing.

    archive: gives what Kafka has expired; None: that is an error.
    """

    def __init__(self, kafka: str, archive: Archive | None = None) -> None:
        self._kafka = kafka
        self._archive = archive
        self._consumer: Any = None

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> Events:
        """All committed events of a span, by topic.

        Raises: DirectReadError where the broker does not give all of it in time,
            TooManyBytesError where it is larger than `bytes_max`, ExpiredError where the broker
            does not have it any more, and the archive neither.
        """
        try:
            try:
                return self._read(span, bytes_max)
            except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
                return self._read_expired(span, bytes_max, error)
        except KafkaError as error:
            self.close()
            raise DirectReadError(f"{type(error).__name__}: {error}") from error

    def beginnings(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that the broker has of each partition. Raises: DirectReadError."""
        try:
            return dict(self._open().beginning_offsets(partitions))
        except KafkaError as error:
            self.close()
            raise DirectReadError(f"{type(error).__name__}: {error}") from error

    def ends(self, topics: Collection[str]) -> dict[TopicPartition, int]:
        """The offset after the last committed record of each partition of those topics that there
        are. Raises: DirectReadError."""
        try:
            consumer = self._open()
            there = consumer.topics() & set(topics)
            places = [
                TopicPartition(topic, partition)
                for topic in sorted(there)
                for partition in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            return dict(consumer.end_offsets(places)) if places else {}
        except KafkaError as error:
            self.close()
            raise DirectReadError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Drop the connection; the next read opens a new one."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
        self._consumer = None

    def _read(self, span: BatchSpan, bytes_max: int | None) -> Events:
        consumer = self._open()
        ends = {
            TopicPartition(topic, partition): end
            for topic in span.sizes()
            for partition, end in span.end[topic].items()
            if end > span.start.get(topic, {}).get(partition, 0)
        }
        consumer.assign(list(ends))
        fresh = [tp for tp in ends if tp.partition not in span.start.get(tp.topic, {})]
        starts = consumer.beginning_offsets(fresh) if fresh else {}
        for tp in ends:
            consumer.seek(tp, starts[tp] if tp in starts else span.start[tp.topic][tp.partition])
        events: Events = {}
        stalled_since = time.monotonic()
        waiting = set(ends)
        size = 0
        while waiting:
            polled = consumer.poll(timeout_ms=_POLL_MS)
            for tp, records in polled.items():
                kept = [raw_event(record) for record in records if record.offset < ends[tp]]
                events.setdefault(tp.topic, []).extend(kept)
                size += sum(len(event.value or b"") for event in kept)
            if bytes_max is not None and size > bytes_max:
                raise TooManyBytesError(f"more than {bytes_max} bytes")
            # Transaction markers are offsets without a record: the position tells the end.
            done = {tp for tp in waiting if consumer.position(tp) >= ends[tp]}
            waiting -= done
            if polled or done:
                stalled_since = time.monotonic()
            elif time.monotonic() - stalled_since > DIRECT_STALL_S:
                raise DirectReadError(f"{len(waiting)} partitions give nothing more")
        return {topic: found for topic, found in events.items() if found}

    def _read_expired(self, span: BatchSpan, bytes_max: int | None, error: KafkaError) -> Events:
        """What Kafka has expired of a span from the archive, the rest from Kafka."""
        begins = self._expired(span)
        start = {topic: dict(partitions) for topic, partitions in span.start.items()}
        events: Events = {}
        size = 0
        for tp, begin in begins.items():
            first, end = start[tp.topic][tp.partition], min(begin, span.end[tp.topic][tp.partition])
            try:
                if self._archive is None:
                    raise NotArchivedError("bronze is not asked here")
                found = self._archive.read(tp.topic, tp.partition, first, end)
            except NotArchivedError as lacking:
                self.close()
                raise ExpiredError(_missing(span, begins, lacking)) from error
            events.setdefault(tp.topic, []).extend(found)
            start[tp.topic][tp.partition] = end
            size += sum(len(event.value or b"") for event in found)
            if bytes_max is not None and size > bytes_max:
                raise TooManyBytesError(f"more than {bytes_max} bytes") from error
        told = ", ".join(f"{tp.topic}/{tp.partition}" for tp in begins)
        log.warning("Kafka has expired events that silver wants (%s): bronze gives them", told)
        left = None if bytes_max is None else bytes_max - size
        for topic, found in self._read(BatchSpan(start, span.end), left).items():
            events.setdefault(topic, []).extend(found)
        return {topic: found for topic, found in events.items() if found}

    def _expired(self, span: BatchSpan) -> dict[TopicPartition, int]:
        """The partitions whose first offset is behind the span's start, with that offset."""
        places = [
            TopicPartition(topic, partition)
            for topic, starts in span.start.items()
            for partition, start in starts.items()
            if span.end.get(topic, {}).get(partition, 0) > start
        ]
        begins = self._open().beginning_offsets(places)
        return {
            tp: begin for tp, begin in begins.items() if begin > span.start[tp.topic][tp.partition]
        }

    def _open(self) -> Any:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self._kafka,
                group_id=None,
                enable_auto_commit=False,
                isolation_level="read_committed",
                # An offset that Kafka does not have any more is lost data, not a new start.
                auto_offset_reset="none",
                fetch_max_wait_ms=10,
                fetch_min_bytes=1,
                max_poll_records=_POLL_RECORDS_MAX,
                check_crcs=False,
            )
        return self._consumer


def _missing(span: BatchSpan, begins: dict[TopicPartition, int], lacking: Exception) -> str:
    gone = [
        f"{tp.topic}, partition {tp.partition}: offsets from {span.start[tp.topic][tp.partition]}"
        f" on are wanted, there are those from {begin} on"
        for tp, begin in begins.items()
    ]
    return (
        f"Kafka has dropped events that silver has not merged ({'; '.join(gone)}), and {lacking}\n"
        "  hint: `headwater verify --bronze` names what bronze lacks, `headwater rebuild` makes the "
        "table again from what it has"
    )


def starting_offsets(settings: SilverSettings, merged: Offsets) -> str:
    """Where a query without a checkpoint begins: after what the ledger says is merged.

    Reading from the start instead would bring back rows that were deleted since: a snapshot's
    rows say nothing of what came after them. Spark wants every partition named.
    """
    if not merged:
        return "earliest"
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, group_id=None)
    try:
        pattern = re.compile(topic_pattern(settings.topic_prefix))
        topics = {name for name in consumer.topics() if pattern.fullmatch(name)}
        found = {
            topic: {
                str(partition): merged.get(topic, {}).get(partition, _EARLIEST)
                for partition in sorted(consumer.partitions_for_topic(topic) or ())
            }
            for topic in sorted(topics)
        }
    finally:
        consumer.close(autocommit=False)
    return json.dumps(found)


def topic_pattern(prefix: str) -> str:
    """The topics of tables: `<prefix>.<schema>.<table>`; a table's name may hold dots."""
    return rf"{re.escape(prefix)}\.[^.]+\..+"


def raw_event(record: Any) -> RawEvent:
    """A kafka-python record in the form that the decoder takes."""
    return RawEvent(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        list(record.headers or ()),
    )


class EventReader:
    """Reads parts of a batch, between the offsets that Spark planned."""

    def __init__(
        self, settings: SilverSettings, session: SparkSession, archive: Archive | None = None
    ) -> None:
        self._settings = settings
        self._session = session
        self._direct = DirectReader(settings.kafka, archive)

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> Events:
        """The events of a span in the driver: directly where that works, through Spark else.

        Raises: TooManyBytesError where they take more than `bytes_max`.
        """
        try:
            return self._direct.read(span, bytes_max)
        except ExpiredError:
            raise  # Spark would not find them either
        except DirectReadError as error:
            log.warning("events are read through Spark: %s", error)
            return collect_events(self.frame(span, self._session))

    def started(self, span: BatchSpan) -> BatchSpan:
        """The span with a start for every partition: Spark's plan has none for a new one's."""
        fresh = [
            TopicPartition(topic, partition)
            for topic, partitions in span.end.items()
            for partition in partitions
            if partition not in span.start.get(topic, {})
        ]
        if not fresh:
            return span
        start = {topic: dict(partitions) for topic, partitions in span.start.items()}
        for place, offset in self._direct.beginnings(fresh).items():
            start.setdefault(place.topic, {})[place.partition] = offset
        return BatchSpan(start, span.end)

    def frame(self, span: BatchSpan, session: SparkSession) -> DataFrame:
        """The events of a span as a frame that executors read (RAW_COLUMNS)."""
        ends = {
            topic: {p: e for p, e in span.end[topic].items() if e > _start(span, topic, p)}
            for topic in span.sizes()
        }
        starts = {t: {p: _start(span, t, p) for p in partitions} for t, partitions in ends.items()}
        frame = (
            session.read.format("kafka")
            .options(**kafka_options(self._settings))
            .option("assign", json.dumps({t: sorted(ps) for t, ps in ends.items()}))
            .option("startingOffsets", json.dumps(starts))
            .option("endingOffsets", json.dumps(ends))
            .option("failOnDataLoss", "true")
            # A topic of one partition is read by all cores too.
            .option("minPartitions", str(session.sparkContext.defaultParallelism * 2))
            .load()
        )
        return frame.selectExpr(
            "topic",
            "partition",
            "offset",
            "unix_millis(timestamp) timestamp",
            "key",
            "value",
            "headers",
        )


def _start(span: BatchSpan, topic: str, partition: int) -> int:
    return span.start.get(topic, {}).get(partition, 0)


def collect_events(frame: DataFrame) -> Events:
    """Bring all events of a frame (RAW_COLUMNS) into the driver, by topic, in no order."""
    return events_of(frame.toArrow())


def events_of(table: pa.Table) -> Events:
    """Arrow rows (topic, partition, offset, timestamp in ms, key, value, headers) by topic."""
    events: Events = {}
    lists = [column.to_pylist() for column in table.columns]
    for topic, partition, offset, timestamp, key, value, headers in zip(*lists, strict=True):
        found = [(h["key"], h["value"]) for h in headers] if headers else []
        event = RawEvent(topic, partition, offset, timestamp, key, value, found)
        events.setdefault(topic, []).append(event)
    return events

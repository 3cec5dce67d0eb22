"""Reads a batch's change events from Kafka: small batches directly, large ones through Spark.

Spark plans each batch and keeps its offsets. Reading ten topics of a small batch as a Spark job
costs 0.65 CPU-seconds (a task per partition); one consumer in the driver reads the same offsets in
0.01, and 30 microseconds a record. So small batches are read directly, between exactly the offsets
that Spark planned, and their events never pass through the JVM's heap.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from kafka import TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from spark_streaming.contract.names import INTERNAL_SCHEMA
from spark_streaming.contract.table_share import TableShare
from spark_streaming.events.event import RawEvent
from spark_streaming.job_settings import SilverSettings
from spark_streaming.reading.expired_events import Archive, NotArchivedError, TooManyBytesError
from spark_streaming.reading.offsets import BatchSpan, Offsets
from spark_streaming.storage.connections import KAFKA_LIMITS
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)
Events = dict[str, list[RawEvent]]
DIRECT_STALL_S = 20.0  # a read fails after this time without progress
_POLL_MS = 100
NO_TOPIC = "/"  # no topic's name contains a slash
_EARLIEST = -2
_POLL_RECORDS_MAX = 10_000
# The columns of a read through Spark.
RAW_COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")


class DirectReadError(Exception):
    """The events of a batch could not be read directly; they are then read through Spark."""


class ExpiredError(DirectReadError):
    """Kafka does not have the events any more; the message says from which offset on it has them.

    `topics` are those that lack events.
    """

    def __init__(self, text: str, topics: Collection[str]) -> None:
        super().__init__(text)
        self.topics = frozenset(topics)


def kafka_options(settings: SilverSettings) -> dict[str, str]:
    """Return the options of every read of change events through Spark."""
    return {
        **settings.kafka.spark_options(),
        "includeHeaders": "true",
        # Leaves out open and aborted transactions of the source connector.
        "kafka.isolation.level": "read_committed",
        "kafka.metadata.max.age.ms": "5000",
        "kafka.fetch.max.wait.ms": "10",
    }


class DirectReader:
    """Reads with one consumer in the driver; it has no group and commits nothing.

    Args:
        archive: gives the events that Kafka has expired; None: an expired event is an error.
        internal: the prefix of topics whose expired events are not needed.
    """

    def __init__(
        self, kafka: KafkaCluster, archive: Archive | None = None, internal: str = NO_TOPIC
    ) -> None:
        self._kafka = kafka
        self._archive = archive
        self._internal = internal
        self._consumer: Any = None

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> Events:
        """Return all committed events of a span, by topic.

        Raises: DirectReadError if the broker does not return the whole span in time;
        TooManyBytesError
            if its events are larger than `bytes_max`; ExpiredError if neither the broker nor the
            archive has all of them.
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
        """Return the first offset that the broker has of each partition. Raises: DirectReadError."""
        try:
            return dict(self._open().beginning_offsets(partitions))
        except KafkaError as error:
            self.close()
            raise DirectReadError(f"{type(error).__name__}: {error}") from error

    def ends(self, topics: Collection[str]) -> dict[TopicPartition, int]:
        """Return the offset after the last committed record of each partition.

        Topics that do not exist are left out. Raises: DirectReadError.
        """
        try:
            consumer = self._open()
            existing = consumer.topics() & set(topics)
            places = [
                TopicPartition(topic, partition)
                for topic in sorted(existing)
                for partition in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            return dict(consumer.end_offsets(places)) if places else {}
        except KafkaError as error:
            self.close()
            raise DirectReadError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection; the next read opens a new one."""
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
            # Transaction markers are offsets without a record, so the position shows the end.
            done = {tp for tp in waiting if consumer.position(tp) >= ends[tp]}
            waiting -= done
            if polled or done:
                stalled_since = time.monotonic()
            elif time.monotonic() - stalled_since > DIRECT_STALL_S:
                self.close()  # its connection may hang
                raise DirectReadError(f"{len(waiting)} partitions return no more records")
        return {topic: some for topic, some in events.items() if some}

    def _read_expired(self, span: BatchSpan, bytes_max: int | None, error: KafkaError) -> Events:
        """Read expired events of a span from the archive, and the rest from Kafka."""
        begins = self._expired(span)
        start = {topic: dict(partitions) for topic, partitions in span.start.items()}
        events: Events = {}
        size = 0
        lacking: dict[TopicPartition, NotArchivedError] = {}
        for tp, begin in begins.items():
            first, end = start[tp.topic][tp.partition], min(begin, span.end[tp.topic][tp.partition])
            left = None if bytes_max is None else bytes_max - size
            try:
                if self._archive is None:
                    raise NotArchivedError("this reader does not use bronze")
                archived = self._archive.read(tp.topic, tp.partition, first, end, left)
            except NotArchivedError as missing:
                if not tp.topic.startswith(self._internal):
                    lacking[tp] = missing
                    continue
                archived = []  # heartbeats are not needed: the next one says the same
            events.setdefault(tp.topic, []).extend(archived)
            start[tp.topic][tp.partition] = end
            size += sum(len(event.value or b"") for event in archived)
        if lacking:
            self.close()
            raise ExpiredError(
                _missing(span, begins, lacking), {tp.topic for tp in lacking}
            ) from error
        places = ", ".join(f"{tp.topic}/{tp.partition}" for tp in begins)
        log.warning(
            "Kafka has expired events that silver has not merged (%s): reading them from bronze",
            places,
        )
        left = None if bytes_max is None else bytes_max - size
        for topic, others in self._read(BatchSpan(start, span.end), left).items():
            events.setdefault(topic, []).extend(others)
        return {topic: some for topic, some in events.items() if some}

    def _expired(self, span: BatchSpan) -> dict[TopicPartition, int]:
        """Return the partitions whose first offset is after the span's start, with that offset."""
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
            self._consumer = BoundedConsumer(
                **self._kafka.options,
                group_id=None,
                enable_auto_commit=False,
                isolation_level="read_committed",
                # An expired offset is an error here, not a reason to start elsewhere.
                auto_offset_reset="none",
                fetch_max_wait_ms=10,
                fetch_min_bytes=1,
                max_poll_records=_POLL_RECORDS_MAX,
                check_crcs=False,
                **KAFKA_LIMITS,
            )
        return self._consumer


def _missing(
    span: BatchSpan,
    begins: dict[TopicPartition, int],
    lacking: dict[TopicPartition, NotArchivedError],
) -> str:
    gone = [
        f"{tp.topic}, partition {tp.partition}: offsets from {span.start[tp.topic][tp.partition]}"
        f" on are needed, but Kafka has only those from {begins[tp]} on; {reason}"
        for tp, reason in lacking.items()
    ]
    return (
        f"Kafka has dropped events that silver has not merged ({'; '.join(gone)})\n"
        "  hint: `headwater verify --bronze` lists what bronze lacks; `headwater rebuild` makes the "
        "table again from the events that bronze has"
    )


def starting_offsets(settings: SilverSettings, merged: Offsets) -> str:
    """Return the start of a query without a checkpoint: after the events that are merged by the ledger.

    Reading from the start instead would bring back deleted rows: a snapshot's rows do not show what
    happened to them later. Spark requires every partition to be named.
    """
    if not merged:
        return "earliest"
    consumer = BoundedConsumer(group_id=None, **settings.kafka.options, **KAFKA_LIMITS)
    try:
        pattern = re.compile(TableShare.of_settings(settings).topic_pattern(settings.topic_prefix))
        topics = {name for name in consumer.topics() if pattern.fullmatch(name)}
        offsets = {
            topic: {
                str(partition): merged.get(topic, {}).get(partition, _EARLIEST)
                for partition in sorted(consumer.partitions_for_topic(topic) or ())
            }
            for topic in sorted(topics)
        }
    finally:
        consumer.close(autocommit=False)
    return json.dumps(offsets)


def raw_event(record: Any) -> RawEvent:
    """Return a kafka-python record in the form that the decoder takes."""
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
        self.direct = DirectReader(
            settings.kafka, archive, f"{settings.topic_prefix}.{INTERNAL_SCHEMA}."
        )

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> Events:
        """Read the events of a span into the driver: directly, or through Spark if that fails.

        Raises: TooManyBytesError if they take more than `bytes_max`; ExpiredError.
        """
        try:
            return self.direct.read(span, bytes_max)
        except ExpiredError:
            raise  # Spark would not find the events either
        except DirectReadError as error:
            log.warning("events are read through Spark: %s", error)
            return collect_events(self.frame(span, self._session))

    def frame(self, span: BatchSpan, session: SparkSession) -> DataFrame:
        """Return a frame of a span's events (RAW_COLUMNS), which executors read."""
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
            # With this, all cores read a topic that has only one partition.
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
    """Collect all events of a frame (RAW_COLUMNS) in the driver, by topic, in no order."""
    return events_of(frame.toArrow())


def events_of(table: pa.Table) -> Events:
    """Group Arrow rows (RAW_COLUMNS, timestamp in ms) into events by topic."""
    events: Events = {}
    lists = [column.to_pylist() for column in table.columns]
    for topic, partition, offset, timestamp, key, value, headers in zip(*lists, strict=True):
        pairs = [(h["key"], h["value"]) for h in headers] if headers else []
        event = RawEvent(topic, partition, offset, timestamp, key, value, pairs)
        events.setdefault(topic, []).append(event)
    return events


class Read(Protocol):
    """Reads the events of a span. Raises: TooManyBytesError if they take more than `bytes_max`."""

    def __call__(self, span: BatchSpan, bytes_max: int | None = None) -> Events: ...


def read_once(kafka: KafkaCluster, archive: Archive | None = None) -> Read:
    """Return a reader with a new consumer for each span, so that stopped tables catch up in parallel."""

    def read(span: BatchSpan, bytes_max: int | None = None) -> Events:
        reader = DirectReader(kafka, archive)
        try:
            return reader.read(span, bytes_max)
        finally:
            reader.close()

    return read

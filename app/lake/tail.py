"""Read a known stretch of Kafka topics, committed records only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from app.errors import HeadwaterError
from spark_streaming.bronze import MARKER_OFFSETS_MAX
from spark_streaming.envelope import RawEvent
from spark_streaming.kafka_source import raw_event
from spark_streaming.streams.contract import is_stream_topic

POLL_MS = 200
LOOK_EVERY_S = 2.0
RECORDS_PER_POLL = 5_000

Offsets = Mapping[int, int]


def open_consumer(bootstrap: str) -> Any:
    """A consumer without a group that sees committed transactions only."""
    try:
        return KafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            group_id=None,
            max_poll_records=RECORDS_PER_POLL,
            fetch_max_wait_ms=50,
            metrics_enabled=False,
        )
    except KafkaError as error:
        raise HeadwaterError(
            "Kafka cannot be reached",
            detail=f"{bootstrap}: {error}",
            hint="is it up? `./headwater status kafka`",
        ) from error


def partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    """The topic's partitions; empty where the topic does not exist yet."""
    return [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]


class Arrivals:
    """Tells whether capture still brings events: who waits for one gives up when it does not."""

    def __init__(self, consumer: Any, prefix: str, *, patience_s: float) -> None:
        self._consumer = consumer
        self._prefix = f"{prefix}."
        self._patience_s = patience_s
        self._count = -1
        self._grew = self._looked = time.monotonic()

    def check(self, waiting_for: str) -> None:
        """Return while events arrive; counts them at most once in LOOK_EVERY_S.

        Raises: HeadwaterError where none arrived for the patience's time.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        count = self._offsets()
        if count > self._count:
            self._count, self._grew = count, now
        elif now - self._grew > self._patience_s:
            raise HeadwaterError(
                f"{waiting_for} did not arrive in Kafka, nor has anything else "
                f"for {now - self._grew:.0f} s",
                detail=f"{count} offsets in the topics {self._prefix}*",
                hint="is the connector running? `./headwater status kafka connect capture`",
            )

    def _offsets(self) -> int:
        # A stream's events say nothing of capture.
        topics = [
            topic
            for topic in self._consumer.topics()
            if topic.startswith(self._prefix) and not is_stream_topic(topic, self._prefix[:-1])
        ]
        places = [tp for topic in topics for tp in partitions(self._consumer, topic)]
        return sum(self._consumer.end_offsets(places).values()) if places else 0


def await_partitions(consumer: Any, topic: str, arrivals: Arrivals) -> list[TopicPartition]:
    """The partitions of a topic that must come to exist.

    Capture makes it when the first snapshot has ended, and a broker that just started names its
    topics late. Raises: HeadwaterError where nothing arrives any more.
    """
    while not (found := partitions(consumer, topic)):
        arrivals.check(f"the first event of {topic}")
        time.sleep(POLL_MS / 1_000)
    return found


def end_offsets(consumer: Any, topic: str) -> dict[int, int]:
    """The next offset of each partition that a committed reader would get."""
    return {
        tp.partition: at for tp, at in consumer.end_offsets(partitions(consumer, topic)).items()
    }


def behind_marker(consumer: Any, topic: str, start: Offsets) -> dict[int, int]:
    """`start`, by partition, moved on where Kafka begins just behind it: what was expired there is
    the marker that ended a transaction, and no record."""
    moved = dict(start)
    places = [TopicPartition(topic, partition) for partition in start]
    for tp, begin in (consumer.beginning_offsets(places) if places else {}).items():
        if 0 < begin - start[tp.partition] <= MARKER_OFFSETS_MAX:
            moved[tp.partition] = begin
    return moved


def read_between(
    consumer: Any, topic: str, start: Offsets, end: Offsets, *, deadline_s: float
) -> Iterator[RawEvent]:
    """The records of `topic` from `start` up to, without, `end` (offsets by partition).

    A partition that `start` does not name is read from its beginning.
    Raises: HeadwaterError where Kafka has expired what is asked for, or does not answer.
    """
    wanted = {TopicPartition(topic, p): to for p, to in end.items() if to > start.get(p, 0)}
    if not wanted:
        return
    consumer.assign(list(wanted))
    first = consumer.beginning_offsets(list(wanted))
    for tp in wanted:
        begin = start.get(tp.partition, 0)
        if begin and first[tp] > begin:
            raise HeadwaterError(
                f"Kafka has expired records of {topic} that are needed",
                detail=f"partition {tp.partition}: wanted offset {begin}, oldest is {first[tp]}",
            )
        consumer.seek(tp, max(begin, first[tp]))
    limit = time.monotonic() + deadline_s
    while any(consumer.position(tp) < to for tp, to in wanted.items()):
        if time.monotonic() > limit:
            raise HeadwaterError(
                f"reading {topic} did not end within {deadline_s:.0f} s",
                detail=", ".join(f"{tp.partition}: {consumer.position(tp)}" for tp in wanted),
            )
        for tp, records in consumer.poll(timeout_ms=POLL_MS).items():
            yield from (raw_event(r) for r in records if r.offset < wanted[tp])


def transaction_id(event: RawEvent) -> int | None:
    """The 32-bit transaction id that a change event names; None for tombstones and snapshots."""
    if event.value is None:
        return None
    try:
        source = orjson.loads(event.value).get("source") or {}
    except (orjson.JSONDecodeError, AttributeError):
        return None
    if source.get("snapshot") not in (None, "false", False):
        return None
    xid = source.get("txId")
    return int(xid) if xid is not None else None


def await_transaction(consumer: Any, topic: str, xid: int, arrivals: Arrivals) -> None:
    """Return once an event of transaction `xid` is readable in `topic`.

    Start positions must have been set by the caller (`seek_to_end` before the transaction).
    Raises: HeadwaterError where nothing arrives any more, and it has not.
    """
    while True:
        for event in _polled(consumer):
            if event.topic == topic and transaction_id(event) == xid:
                return
        arrivals.check(f"the marker transaction {xid}")


def _polled(consumer: Any) -> Iterable[RawEvent]:
    for records in consumer.poll(timeout_ms=POLL_MS).values():
        yield from (raw_event(record) for record in records)

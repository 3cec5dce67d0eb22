"""Reads a known range of offsets of Kafka topics, committed records only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from kafka import TopicPartition
from kafka.errors import KafkaError

from app.errors import HeadwaterError
from spark_streaming.events.envelope import RawEvent
from spark_streaming.reading.bronze_proof import MARKER_OFFSETS_MAX
from spark_streaming.reading.kafka_source import raw_event
from spark_streaming.storage.connections import KAFKA_LIMITS
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer
from spark_streaming.streams.stream_contract import is_stream_topic

POLL_MS = 200
COUNT_EVERY_S = 2.0
RECORDS_PER_POLL = 5_000

# `capture` ends hanging transactions (`app/connectors/hanging_transactions.py`) well within that time.
VISIBLE_WAIT_S = 90.0

Offsets = Mapping[int, int]
Written = Mapping[str, Offsets]


def open_consumer(kafka: KafkaCluster) -> Any:
    """Open a consumer without a group that sees committed transactions only."""
    try:
        return BoundedConsumer(
            **kafka.options,
            isolation_level="read_committed",
            enable_auto_commit=False,
            group_id=None,
            max_poll_records=RECORDS_PER_POLL,
            fetch_max_wait_ms=50,
            metrics_enabled=False,
            **KAFKA_LIMITS,
        )
    except KafkaError as error:
        raise HeadwaterError(
            "Kafka cannot be reached",
            detail=f"{kafka}: {error}",
            hint="is it up? `./headwater status kafka`",
        ) from error


def partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    """List the topic's partitions; empty if the topic does not exist yet."""
    return [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]


class Arrivals:
    """Checks that capture still sends events, so that waiting for one ends if it does not."""

    def __init__(self, consumer: Any, prefix: str, *, patience_s: float) -> None:
        self._consumer = consumer
        self._prefix = f"{prefix}."
        self._patience_s = patience_s
        self._count = -1
        self._grew_at = self._counted_at = time.monotonic()

    def check(self, waiting_for: str) -> None:
        """Count the arrived events, at most once in COUNT_EVERY_S.

        Raises: HeadwaterError if none has arrived for `patience_s`.
        """
        now = time.monotonic()
        if now - self._counted_at < COUNT_EVERY_S:
            return
        self._counted_at = now
        count = self._offsets()
        if count > self._count:
            self._count, self._grew_at = count, now
        elif now - self._grew_at > self._patience_s:
            raise HeadwaterError(
                f"{waiting_for} did not arrive in Kafka, nor has anything else "
                f"for {now - self._grew_at:.0f} s",
                detail=f"{count} offsets in the topics {self._prefix}*",
                hint="is the connector running? `./headwater status kafka connect capture`",
            )

    def _offsets(self) -> int:
        # A stream's events do not come from capture.
        topics = [
            topic
            for topic in self._consumer.topics()
            if topic.startswith(self._prefix) and not is_stream_topic(topic, self._prefix[:-1])
        ]
        places = [tp for topic in topics for tp in partitions(self._consumer, topic)]
        return sum(self._consumer.end_offsets(places).values()) if places else 0


def await_partitions(consumer: Any, topic: str, arrivals: Arrivals) -> list[TopicPartition]:
    """Wait until a topic exists; return its partitions.

    Capture makes it at the end of the first snapshot, and a broker that has just started lists its
    topics late. Raises: HeadwaterError if no event arrives any more.
    """
    while not (places := partitions(consumer, topic)):
        arrivals.check(f"the first event of {topic}")
        time.sleep(POLL_MS / 1_000)
    return places


def end_offsets(consumer: Any, topic: str) -> dict[int, int]:
    """Return the next offset of each partition that a committed reader would get."""
    return {
        tp.partition: at for tp, at in consumer.end_offsets(partitions(consumer, topic)).items()
    }


def await_visible(consumer: Any, topics: Iterable[str], written: Written) -> None:
    """Wait until a committed reader gets all records up to `written` of these topics.

    Kafka hides the records of an open transaction, or of one whose marker a killed broker did not
    write, and everything after them. Raises: HeadwaterError after VISIBLE_WAIT_S.
    """
    limit = time.monotonic() + VISIBLE_WAIT_S
    left = {topic: dict(written.get(topic, {})) for topic in topics}
    while True:
        for topic, ends in left.items():
            shown = end_offsets(consumer, topic) if ends else {}
            left[topic] = {p: end for p, end in ends.items() if shown.get(p, 0) < end}
        hidden = {topic: ends for topic, ends in left.items() if ends}
        if not hidden:
            return
        if time.monotonic() > limit:
            raise HeadwaterError(
                f"records were not committed within {VISIBLE_WAIT_S:.0f} s: their content is not known",
                detail=", ".join(f"{topic}: {ends}" for topic, ends in sorted(hidden.items())),
                hint="a transaction hangs after Kafka was killed; `capture` ends it: "
                "`./headwater status capture`, then run it again",
            )
        time.sleep(POLL_MS / 1_000)


def behind_marker(consumer: Any, topic: str, start: Offsets) -> dict[int, int]:
    """Return `start`, advanced in partitions where Kafka begins just after it.

    What expired in between is then the marker that ended a transaction, and no record.
    """
    moved = dict(start)
    places = [TopicPartition(topic, partition) for partition in start]
    for tp, begin in (consumer.beginning_offsets(places) if places else {}).items():
        if 0 < begin - start[tp.partition] <= MARKER_OFFSETS_MAX:
            moved[tp.partition] = begin
    return moved


def read_between(
    consumer: Any, topic: str, start: Offsets, end: Offsets, *, deadline_s: float
) -> Iterator[RawEvent]:
    """Yield the records of `topic` from `start` up to but not including `end` (by partition).

    A partition that is not in `start` is read from its beginning.
    Raises: HeadwaterError if Kafka has expired some of them, or does not deliver them in time.
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
    """Return the 32-bit transaction id of a change event; None for tombstones and snapshots."""
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
    """Wait until an event of transaction `xid` can be read from `topic`.

    The caller must have set the start positions (`seek_to_end` before the transaction).
    Raises: HeadwaterError if it has not arrived and no other event does.
    """
    while True:
        for event in _polled(consumer):
            if event.topic == topic and transaction_id(event) == xid:
                return
        arrivals.check(f"the marker transaction {xid}")


def _polled(consumer: Any) -> Iterable[RawEvent]:
    for records in consumer.poll(timeout_ms=POLL_MS).values():
        yield from (raw_event(record) for record in records)

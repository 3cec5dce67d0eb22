"""Deletes a topic's records up to the erased events: Kafka can drop only the beginning of a partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from app.errors import HeadwaterError
from app.lake import topic_tail as tail
from spark_streaming.storage.kafka_cluster import KafkaCluster

TIMEOUT_MS = 30_000
RETENTION_MS = "retention.ms"


class Span(NamedTuple):
    """The records that Kafka still has of a partition, up to its last erased event.

    Args:
        upto: the offset behind the last erased event.
        rows: the erased events that Kafka still has.
        offsets: all offsets that go with them: other rows' records, too, which bronze has.
    """

    partition: int
    upto: int
    rows: int
    offsets: int


def spans(kafka: KafkaCluster, topic: str, erased: Mapping[int, list[int]]) -> list[Span]:
    """Return what Kafka still has of the partitions with erased events; only partitions with such events.

    Raises: HeadwaterError if Kafka does not answer.
    """
    consumer = tail.open_consumer(kafka)
    with _named_failures(), closing(consumer):
        begins = consumer.beginning_offsets([TopicPartition(topic, p) for p in erased])
    found = []
    for partition, offsets in sorted(erased.items()):
        begin = begins[TopicPartition(topic, partition)]
        rows = sum(1 for offset in offsets if offset >= begin)
        if rows:
            upto = max(offsets) + 1
            found.append(Span(partition, upto, rows, upto - begin))
    return found


def check_read(topic: str, wanted: list[Span], merged: Mapping[int, int]) -> None:
    """Raise HeadwaterError if silver has not merged what would be deleted."""
    for span in wanted:
        if merged.get(span.partition, 0) < span.upto:
            raise HeadwaterError(
                f"silver has not merged partition {span.partition} of {topic} up to offset {span.upto}",
                detail=f"it is at {merged.get(span.partition, 0)}",
                hint="run the erasure again: it continues",
            )


def delete(kafka: KafkaCluster, topic: str, wanted: list[Span]) -> None:
    """Delete the records below each span's end. Raises: HeadwaterError if Kafka refuses."""
    if not wanted:
        return
    with _named_failures(), closing(_admin(kafka)) as admin:
        admin.delete_records(
            {TopicPartition(topic, span.partition): span.upto for span in wanted},
            timeout_ms=TIMEOUT_MS,
        )


def retention_ms(kafka: KafkaCluster, topic: str) -> int | None:
    """Return how long a topic keeps records; None if that is not limited, or not known."""
    try:
        with closing(_admin(kafka)) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic)
            found = admin.describe_configs([resource], config_filter="all")
        value = int(_setting(found, RETENTION_MS))
    except (KafkaError, KeyError, TypeError, ValueError):
        return None
    return value if value >= 0 else None


def _setting(answers: Any, name: str) -> Any:
    """Find a setting in kafka-python's nested answer."""
    for topics in answers.values():
        for settings in topics.values():
            found = settings[name]
            return found["value"] if isinstance(found, dict) else found
    raise KeyError(name)


def _admin(kafka: KafkaCluster) -> Any:
    return KafkaAdminClient(**kafka.options, request_timeout_ms=TIMEOUT_MS)


@contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise HeadwaterError(
            "Kafka did not delete the records",
            detail=f"{type(error).__name__}: {error}",
            hint="all other stores are done. Run this again when Kafka answers and the user has the right to "
            "`Delete` on the topic; or with --keep-kafka: the records then expire by age",
        ) from error

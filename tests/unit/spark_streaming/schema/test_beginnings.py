"""A topic that silver never merged begins at its first event, in Kafka or in bronze."""

from __future__ import annotations

from kafka import TopicPartition

from spark_streaming.reading.offsets import BatchSpan, Offsets
from spark_streaming.schema.beginnings import Beginnings

FILMS, ORDERS = "hw.public.films", "hw.public.orders"


class Kafka:
    """Has the first offset of each partition, 0 by default."""

    def __init__(self, begins: Offsets) -> None:
        self.begins = begins
        self.asked: list[TopicPartition] = []

    def beginnings(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked += partitions
        return {tp: self.begins.get(tp.topic, {}).get(tp.partition, 0) for tp in partitions}


def _beginnings(
    kafka: Kafka, archived: dict[str, int], merged: Offsets | None = None, there: str = ""
) -> Beginnings:
    return Beginnings(
        kafka, lambda topic, _: archived.get(topic), merged or {}, lambda topic: topic != there
    )


def test_a_topic_that_silver_never_saw_begins_in_bronze_where_kafka_has_dropped_its_events() -> (
    None
):
    kafka = Kafka({FILMS: {0: 40}})
    found = _beginnings(kafka, {FILMS: 0})
    end = {FILMS: {0: 60}}
    assert found.started(BatchSpan({}, end), 0).start == {FILMS: {0: 0}}
    assert found.started(BatchSpan({FILMS: {0: 40}}, end), 0).start == {FILMS: {0: 0}}, "repeated"
    later = BatchSpan({FILMS: {0: 60}}, {FILMS: {0: 70}})
    assert found.started(later, 1) == later


def test_an_emptied_lake_begins_in_bronze_where_kafka_has_nothing_left() -> None:
    kafka = Kafka({FILMS: {0: 60}, ORDERS: {0: 5}})
    found = _beginnings(kafka, {FILMS: 3, ORDERS: 9})
    ends = {FILMS: {0: 60}, ORDERS: {0: 8}}
    span = found.started(BatchSpan({FILMS: {0: 60}, ORDERS: {0: 7}}, ends), 4)
    assert span.start == {FILMS: {0: 3}, ORDERS: {0: 5}}, "a checkpoint that was kept is passed by"
    assert span.sizes() == {FILMS: 57, ORDERS: 3}


def test_what_the_ledger_knows_or_silver_has_begins_where_it_was_planned() -> None:
    kafka = Kafka({FILMS: {0: 40}, ORDERS: {0: 40}})
    found = _beginnings(kafka, {FILMS: 0, ORDERS: 0}, {FILMS: {0: 50}}, there=ORDERS)
    planned = BatchSpan({FILMS: {0: 50}, ORDERS: {0: 45}}, {FILMS: {0: 60}, ORDERS: {0: 60}})
    assert found.started(planned, 9) == planned
    assert kafka.asked == []


def test_a_new_partition_begins_where_kafka_does() -> None:
    kafka = Kafka({ORDERS: {1: 7}})
    found = _beginnings(kafka, {}, {ORDERS: {0: 50}}, there=ORDERS)
    span = found.started(BatchSpan({ORDERS: {0: 50}}, {ORDERS: {0: 50, 1: 9}}), 9)
    assert span.start == {ORDERS: {0: 50, 1: 7}}

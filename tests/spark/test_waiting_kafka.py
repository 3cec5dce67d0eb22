"""A streaming query that waits in its Kafka source gets events as they come, and ends when it is told to."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spark_streaming.events.event import RawEvent
from spark_streaming.silver_query import WAITING_KAFKA
from spark_streaming.storage.kafka_cluster import KafkaCluster
from tests.support.stack import fresh_stack
from tests.support.transactions import new_topic, send
from tests.support.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WAITS = "dev.headwater.spark.Arrivals.await"


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaCluster]:
    with fresh_stack() as stack:
        stack.up("--only", "kafka")
        yield stack.settings.kafka


class Reader:
    """A query over the topics with a prefix, and the values that it has read."""

    def __init__(self, spark: SparkSession, broker: KafkaCluster, folder: Path) -> None:
        self.prefix = f"wait{uuid.uuid4().hex[:8]}"
        self.values: list[str] = []
        self._jvm: Any = spark.sparkContext._jvm
        new_topic(broker, f"{self.prefix}.first")
        self.query = (
            spark.readStream.format(WAITING_KAFKA)
            .options(**broker.spark_options())
            .option("subscribePattern", rf"{self.prefix}\..+")
            .option("startingOffsets", "earliest")
            .option("kafka.isolation.level", "read_committed")
            .option("kafka.metadata.max.age.ms", "1000")
            .load()
            .writeStream.option("checkpointLocation", folder.as_uri())
            .foreachBatch(self._take)
            .start()
        )

    def _take(self, frame: DataFrame, batch: int) -> None:
        self.values += [row.value.decode() for row in frame.select("value").collect()]

    def await_waiting(self) -> None:
        """Return when the query's thread is in its wait for events."""
        until(self._stacks, lambda text: WAITS in text, within_s=60, what="the wait for events")

    def _stacks(self) -> str:
        threads = self._jvm.java.lang.Thread.getAllStackTraces()
        return "\n".join(str(frame) for frames in threads.values() for frame in frames)

    def await_values(self, *expected: str) -> None:
        until(
            lambda: sorted(self.values), lambda v: v == sorted(expected), within_s=60, what="them"
        )


@pytest.fixture
def reader(spark: SparkSession, broker: KafkaCluster, tmp_path: Path) -> Iterator[Reader]:
    made = Reader(spark, broker, tmp_path / "checkpoint")
    yield made
    made.query.stop()


def _event(value: bytes, partition: int = 0) -> RawEvent:
    return RawEvent("", partition, 0, 0, None, value, [])


def test_committed_events_end_the_wait_each_once(reader: Reader, broker: KafkaCluster) -> None:
    topic = f"{reader.prefix}.first"
    for number in range(3):
        reader.await_waiting()
        send(broker, topic, [_event(b"no", 1)], commit=False)
        send(broker, topic, [_event(b"%d" % number, number % 2)])
        reader.await_values(*map(str, range(number + 1)))


def test_a_topic_that_is_made_during_the_wait_is_read(reader: Reader, broker: KafkaCluster) -> None:
    reader.await_waiting()
    new_topic(broker, f"{reader.prefix}.second")
    send(broker, f"{reader.prefix}.second", [_event(b"late")])
    reader.await_values("late")


def test_a_query_is_stopped_during_its_wait_without_an_error(reader: Reader) -> None:
    reader.await_waiting()
    reader.query.stop()
    assert not reader.query.isActive
    assert reader.query.exception() is None

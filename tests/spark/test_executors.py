"""Executors read the batch that Spark planned from Kafka, and fold it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from spark_streaming.events.event import RawEvent
from spark_streaming.job_settings import SilverSettings
from spark_streaming.reading.expired_events import TooManyBytesError
from spark_streaming.reading.kafka_source import EventReader, collect_events
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.lake import Lake
from tests.spark.backlog_job import Job, Table
from tests.support.stack import fresh_stack
from tests.support.transactions import PARTITIONS, ends, new_topic, send
from tests.unit.debezium_events import event
from tests.unit.model import KEYED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaCluster]:
    with fresh_stack() as stack:
        stack.up("--only", "kafka")
        yield stack.settings.kafka


def _insert(key: int, lsn: int) -> RawEvent:
    row = {"id": key, "note": f"n{lsn}", "big": None}
    partition = key % PARTITIONS
    headers = [("h", json.dumps({"id": partition}).encode())]
    found = event("c", key={"id": key}, after=row, lsn=lsn)
    return found._replace(partition=partition, headers=headers)


def test_large_part_is_read_from_kafka_between_the_planned_offsets(
    lake: Lake, spark: SparkSession, silver_settings: SilverSettings, broker: KafkaCluster
) -> None:
    table = Table(lake, KEYED)
    new_topic(broker, table.topic)
    send(broker, table.topic, [_insert(key, 100 + key) for key in range(20)])
    begin = ends(broker, table.topic, "read_uncommitted")
    send(broker, table.topic, [_insert(key, 200 + key) for key in range(30)])
    send(broker, table.topic, [_insert(99, 250)], commit=False)
    send(broker, table.topic, [_insert(key, 300 + key) for key in range(10)])
    end = ends(broker, table.topic, "read_uncommitted")
    send(broker, table.topic, [_insert(77, 400)])
    settings = silver_settings.model_copy(update={"kafka": broker, "spark_merge_rows_min": 1})
    reader = EventReader(settings, spark)
    span = BatchSpan({table.topic: begin}, {table.topic: end})
    direct = sorted(reader.read(span)[table.topic], key=lambda one: one[1:3])
    framed = collect_events(reader.frame(span, spark))[table.topic]
    assert sorted(framed, key=lambda one: one[1:3]) == direct
    with pytest.raises(TooManyBytesError):
        reader.read(span, 1_000)
    row = Job(table, spark, settings, reader).run(0, span)
    assert (row.engine, row.rows_in, row.rows_upserted) == ("spark", 40, 30)
    notes = {key: note for key, note, _ in table.content()}
    assert notes == {key: f"n{300 + key if key < 10 else 200 + key}" for key in range(30)}

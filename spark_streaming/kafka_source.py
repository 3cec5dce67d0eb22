"""Reading change events from Kafka through Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from spark_streaming.events import RawEvent
from spark_streaming.settings import SilverSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def kafka_options(settings: SilverSettings) -> dict[str, str]:
    """Options that every read of change events shares."""
    return {
        "kafka.bootstrap.servers": settings.kafka,
        "includeHeaders": "true",
        # Open and aborted transactions of the source connector are not there.
        "kafka.isolation.level": "read_committed",
        "kafka.metadata.max.age.ms": "5000",
        "kafka.fetch.max.wait.ms": "10",
    }


def collect_events(frame: DataFrame) -> dict[str, list[RawEvent]]:
    """Bring all events of a frame into the driver, by topic, in no particular order."""
    columns = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
    table = frame.selectExpr(
        "topic",
        "partition",
        "offset",
        "unix_millis(timestamp) timestamp",
        "key",
        "value",
        "headers",
    ).toArrow()
    return events_of(table.select(list(columns)))


def events_of(table: pa.Table) -> dict[str, list[RawEvent]]:
    """Arrow rows (topic, partition, offset, timestamp in ms, key, value, headers) by topic."""
    events: dict[str, list[RawEvent]] = {}
    lists = [column.to_pylist() for column in table.columns]
    for topic, partition, offset, timestamp, key, value, headers in zip(*lists, strict=True):
        found = [(h["key"], h["value"]) for h in headers] if headers else []
        event = RawEvent(topic, partition, offset, timestamp, key, value, found)
        events.setdefault(topic, []).append(event)
    return events

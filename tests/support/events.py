"""The change events of a table, as the real connector wrote them."""

from __future__ import annotations

import json
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from tests.support.stack import Stack


def events(stack: Stack, table: str) -> list[dict[str, Any]]:
    """All committed events of a table's topic without tombstones: op, before, after, source."""
    topic = f"{stack.settings.topic_prefix}.{table}"
    consumer = KafkaConsumer(
        **stack.settings.kafka.options,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    try:
        if topic not in consumer.topics():
            return []
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        found: list[dict[str, Any]] = []
        while consumer.position(place) < end:
            for record in consumer.poll(timeout_ms=1000).get(place, []):
                if record.value is not None:
                    found.append(json.loads(record.value))
        return found
    finally:
        consumer.close()

"""Finds out how far Kafka's topics are written, committed or not."""

from __future__ import annotations

import logging
import re
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from spark_streaming.reading.offsets import Offsets
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer

log = logging.getLogger(__name__)
WAIT_MS = 10_000


class WrittenEnds:
    """Asks Kafka for the end of each partition of some topics, committed or not.

    Args:
        pattern: a regular expression of their names.
    """

    def __init__(self, kafka: KafkaCluster, pattern: str) -> None:
        self._kafka = kafka
        self._pattern = re.compile(pattern)
        self._consumer: Any = None

    def __call__(self) -> Offsets | None:
        """Return topic → partition → offset after the last record; None if Kafka does not answer."""
        try:
            if self._consumer is None:
                self._consumer = BoundedConsumer(
                    **self._kafka.options,
                    group_id=None,
                    enable_auto_commit=False,
                    isolation_level="read_uncommitted",
                    request_timeout_ms=WAIT_MS,
                    bootstrap_timeout_ms=WAIT_MS,
                )
            return self._ends(self._consumer)
        except (KafkaError, AssertionError, ValueError) as error:
            log.warning("Kafka does not say how far its topics are written: %s", error)
            self.close()
            return None

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
        self._consumer = None

    def _ends(self, consumer: Any) -> Offsets:
        places = [
            TopicPartition(topic, partition)
            for topic in consumer.topics()
            if self._pattern.fullmatch(topic)
            for partition in consumer.partitions_for_topic(topic) or ()
        ]
        ends: Offsets = {}
        for place, offset in (consumer.end_offsets(places) if places else {}).items():
            ends.setdefault(place.topic, {})[place.partition] = offset
        return ends

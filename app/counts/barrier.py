"""Decides up to where bronze must be complete before END records are judged, and whether it is.

1. Read the end of the transaction topic's committed records: every END below that offset
belongs
   to a committed Kafka transaction, so all of its events were written before.
   2. Only then read the end of each table's partition, committed or not: those events are below it.
   (The markers of one Kafka transaction reach its partitions one after another.)
3. Bronze is complete once the sink has committed these offsets; it does so after putting its
objects.
"""

from __future__ import annotations

from typing import Any

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.protocol.consumer import IsolationLevel

from app.counts.count_reader import Barrier, is_counted
from app.counts.transactions import TOPIC

BRONZE_GROUP = "connect-bronze"


class PendingBarrier:
    """A barrier that was set and is not reached yet. For one thread; holds no clients."""

    def __init__(self, prefix: str) -> None:
        self._topic = TopicPartition(f"{prefix}.{TOPIC}", 0)
        self._prefix = prefix
        self._ends: dict[TopicPartition, int] = {}

    def set(self, consumer: Any, admin: Any) -> bool:
        """Record Kafka's current end; return False if it has no transaction yet.

        Args:
            consumer, admin: clients of kafka-python.
        Raises: KafkaError.
        """
        topics = consumer.topics()
        if self._topic.topic not in topics:
            return False
        ends = _ends(admin, [self._topic], IsolationLevel.READ_COMMITTED)
        places = [
            TopicPartition(topic, number)
            for topic in consumer.topics()  # read again: an event's topic exists before its END
            if is_counted(topic, self._prefix)
            for number in consumer.partitions_for_topic(topic) or ()
        ]
        if places:
            ends |= _ends(admin, places, IsolationLevel.READ_UNCOMMITTED)
        self._ends = ends
        return True

    def reached(self, admin: Any) -> Barrier | None:
        """Return the barrier once bronze has everything below it; until then, None.

        Raises: KafkaError.
        """
        stored = {
            place: meta.offset
            for place, meta in admin.list_group_offsets(BRONZE_GROUP)[BRONZE_GROUP].items()
        }
        if any(stored.get(place, 0) < end for place, end in self._ends.items()):
            return None
        positions = {
            (place.topic, place.partition): stored.get(place, 0)
            for place in self._ends
            if place != self._topic
        }
        return Barrier(self._ends[self._topic], positions)


def _ends(admin: Any, places: list[TopicPartition], isolation: Any) -> dict[TopicPartition, int]:
    specs = dict.fromkeys(places, OffsetSpec.LATEST)
    found = admin.list_partition_offsets(specs, isolation_level=isolation)
    return {place: at.offset for place, at in found.items()}

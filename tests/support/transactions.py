"""Writes events to Kafka like Connect: in transactions, some of which are aborted."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from spark_streaming.events.event import RawEvent
from spark_streaming.storage.kafka_cluster import KafkaCluster

PARTITIONS = 2


def new_topic(broker: KafkaCluster, name: str) -> None:
    """An empty topic of two partitions."""
    admin = KafkaAdminClient(**broker.options)
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=1)])
    admin.close()


def send(
    broker: KafkaCluster, topic: str, events: Iterable[RawEvent], *, commit: bool = True
) -> None:
    """Write these events in one transaction, each to its partition; abort it if not `commit`."""
    producer = KafkaProducer(**broker.options, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    producer.begin_transaction()
    for one in events:
        producer.send(
            topic, key=one.key, value=one.value, partition=one.partition, headers=one.headers
        )
    producer.flush()
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()
    producer.close()


def ends(broker: KafkaCluster, topic: str, isolation: str = "read_committed") -> dict[int, int]:
    """Partition → its end for readers with this isolation level."""
    consumer = KafkaConsumer(**broker.options, group_id=None, isolation_level=isolation)
    found = consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
    consumer.close(autocommit=False)
    return {place.partition: offset for place, offset in found.items()}

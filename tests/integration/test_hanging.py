"""Transactions that no coordinator will end, in a real broker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError

from app.connectors.hanging_transactions import CHECK_EVERY_S, HANGS_S, Hanging
from spark_streaming.storage.kafka_consumer import BoundedConsumer
from tests.support.clock import Clock
from tests.support.stack import Stack

UNVERIFIED = "transaction.partition.verification.enable"


@pytest.fixture
def broker(carriers: Stack) -> Iterator[KafkaAdminClient]:
    """A broker that takes records of transactions of which their coordinator was not told."""
    client = KafkaAdminClient(**carriers.settings.kafka.options)
    client.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {UNVERIFIED: "false"})])
    try:
        yield client
    finally:
        client.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {UNVERIFIED: "true"})])
        client.close()


@contextmanager
def transaction(carriers: Stack, name: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(**carriers.settings.kafka.options, transactional_id=f"hung-{name}")
    try:
        producer.init_transactions()
        producer.begin_transaction()
        yield producer
    finally:
        producer.close()


def ends(carriers: Stack, place: TopicPartition) -> tuple[int, int]:
    """Where a partition ends for who reads committed records, and where it ends."""
    found = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = KafkaConsumer(
            **carriers.settings.kafka.options, group_id=None, isolation_level=isolation
        )
        found.append(consumer.end_offsets([place])[place])
        consumer.close()
    return found[0], found[1]


def test_a_transaction_that_its_coordinator_does_not_know_is_aborted_and_no_other_is(
    carriers: Stack, broker: KafkaAdminClient
) -> None:
    broker.create_topics([NewTopic("hung.a", 1, 1), NewTopic("hung.b", 1, 1)])
    left, alive = TopicPartition("hung.a", 0), TopicPartition("hung.b", 0)
    clock = Clock()
    guard = Hanging(carriers.settings.kafka, "hung", clock)
    with transaction(carriers, "left") as lost, transaction(carriers, "alive") as living:
        # The client takes the partition for one that it has told the coordinator of.
        lost._transaction_manager._partitions_in_transaction.add(left)
        lost.send(left.topic, b"never committed", partition=0).get(30)
        living.send(alive.topic, b"on its way", partition=0).get(30)
        assert ends(carriers, left) == ends(carriers, alive) == (0, 1)
        assert guard.abort() == []
        clock.now += CHECK_EVERY_S / 2
        assert guard.abort() == [], "no look yet"
        clock.now += HANGS_S
        [ended] = guard.abort()
        assert str(ended) == "hung.a partition 0 offset 0"
        assert ends(carriers, left) == (2, 2), "the record and the marker"
        living.commit_transaction()
        assert ends(carriers, alive) == (2, 2)
        clock.now += CHECK_EVERY_S
        assert guard.abort() == []
        lost.abort_transaction()


def test_a_broker_that_hangs_ends_a_question_for_its_topics(carriers: Stack) -> None:
    consumer = BoundedConsumer(
        **carriers.settings.kafka.options, group_id=None, request_timeout_ms=2_000
    )
    try:
        assert consumer.topics()
        pid = carriers.status()["kafka"]["pid"]
        os.kill(pid, signal.SIGSTOP)  # its kernel goes on to answer for it
        try:
            with pytest.raises(KafkaError):
                consumer.topics()
        finally:
            os.kill(pid, signal.SIGCONT)
    finally:
        consumer.close()

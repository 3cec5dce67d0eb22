"""Open transactions that no coordinator will end, in a real broker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError

from app.connectors.hanging_transactions import CHECK_EVERY_S, HANGS_S, Hanging
from spark_streaming.storage.kafka_consumer import BoundedConsumer
from tests.support.clock import Clock
from tests.support.miscounted import batches
from tests.support.polls import asking
from tests.support.stack import Stack

UNVERIFIED = "transaction.partition.verification.enable"


@pytest.fixture
def broker(carriers: Stack) -> Iterator[KafkaAdminClient]:
    """A broker that accepts records of transactions that their coordinator does not know."""
    client = KafkaAdminClient(**carriers.settings.kafka.options)
    client.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {UNVERIFIED: "false"})])
    try:
        yield client
    finally:
        client.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {UNVERIFIED: "true"})])
        client.close()


@contextmanager
def transaction(stack: Stack, name: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(**stack.settings.kafka.options, transactional_id=name)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        yield producer
    finally:
        producer.close()


def send_untold(producer: KafkaProducer, place: TopicPartition, value: bytes) -> None:
    """Send a record to a partition that the client wrongly believes to be registered with the coordinator."""
    producer._transaction_manager._partitions_in_transaction.add(place)
    producer.send(place.topic, value, partition=place.partition).get(30)


def committed(stack: Stack, place: TopicPartition) -> list[bytes]:
    """The values that a reader of committed records now gets from a partition."""
    consumer = KafkaConsumer(
        **stack.settings.kafka.options, group_id=None, isolation_level="read_committed"
    )
    try:
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        [end] = consumer.end_offsets([place]).values()
        found: list[bytes] = []
        while consumer.position(place) < end:
            for records in consumer.poll(timeout_ms=200).values():
                found += [record.value for record in records]
        return found
    finally:
        consumer.close()


def ends(carriers: Stack, place: TopicPartition) -> tuple[int, int]:
    """The end of a partition for readers of committed records, and its actual end."""
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
    with transaction(carriers, "hung-left") as lost, transaction(carriers, "hung-alive") as living:
        send_untold(lost, left, b"never committed")
        living.send(alive.topic, b"on its way", partition=0).get(30)
        assert ends(carriers, left) == ends(carriers, alive) == (0, 1)
        assert guard.end() == []
        clock.now += CHECK_EVERY_S / 2
        assert guard.end() == [], "no look yet"
        clock.now += HANGS_S
        [ended] = guard.end()
        assert str(ended) == "hung.a partition 0 offset 0: aborted"
        assert ends(carriers, left) == (2, 2), "the record and the marker"
        living.commit_transaction()
        assert ends(carriers, alive) == (2, 2)
        clock.now += CHECK_EVERY_S
        assert guard.end() == []
        lost.abort_transaction()


@pytest.mark.parametrize("is_committed", [True, False], ids=["commit", "abort"])
def test_a_partition_that_got_no_marker_gets_the_one_that_the_others_have(
    carriers: Stack, broker: KafkaAdminClient, is_committed: bool
) -> None:
    prefix = f"hung{is_committed:d}"
    broker.create_topics([NewTopic(f"{prefix}.a", 1, 1), NewTopic(f"{prefix}.b", 1, 1)])
    left, told = TopicPartition(f"{prefix}.a", 0), TopicPartition(f"{prefix}.b", 0)
    clock = Clock()
    guard = Hanging(carriers.settings.kafka, prefix, clock)
    with transaction(carriers, prefix) as producer:
        for turn in (b"first", b"second"):
            send_untold(producer, left, turn)
            producer.send(told.topic, turn, partition=0).get(30)
            if turn == b"first" or is_committed:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
            clock.now += CHECK_EVERY_S
            assert guard.end() == []
            clock.now += HANGS_S
            [ended] = guard.end()
            assert ended.committed == (turn == b"first" or is_committed)
            if turn == b"first":
                producer.begin_transaction()
    assert committed(carriers, left) == committed(carriers, told)
    assert len(committed(carriers, left)) == 1 + is_committed


def test_the_next_transaction_of_a_producer_commits_what_hangs_of_an_aborted_one(
    carriers: Stack, broker: KafkaAdminClient
) -> None:
    """Shows Kafka's behaviour, because of which the source's task waits: otherwise events would come twice."""
    broker.create_topics([NewTopic("joined.a", 1, 1), NewTopic("joined.b", 1, 1)])
    left, told = TopicPartition("joined.a", 0), TopicPartition("joined.b", 0)
    for ended in ("abort_transaction", "commit_transaction"):
        with transaction(carriers, "joined") as producer:
            producer.send(told.topic, ended.encode(), partition=0).get(30)
            if ended == "abort_transaction":
                send_untold(producer, left, ended.encode())
            else:
                producer.send(left.topic, ended.encode(), partition=0).get(30)
            getattr(producer, ended)()
    assert committed(carriers, told) == [b"commit_transaction"]
    assert committed(carriers, left) == [b"abort_transaction", b"commit_transaction"]
    [aborted, sent, end] = batches(carriers.home / "data" / "kafka" / "joined.a-0")
    assert (aborted.marker, sent.marker, end.marker) == (None, None, "COMMIT")
    assert aborted.producer == sent.producer and aborted.epoch < sent.epoch


def test_a_source_task_waits_until_what_hangs_in_its_topics_is_ended(
    carriers: Stack, broker: KafkaAdminClient, tmp_path: Path
) -> None:
    broker.create_topics([NewTopic("waited.a", 1, 1)])
    left = TopicPartition("waited.a", 0)
    clock = Clock()
    guard = Hanging(carriers.settings.kafka, "waited", clock)
    servers = carriers.settings.kafka.options["bootstrap_servers"]
    config = {"topic.prefix": "waited", "kafka.bootstrap.servers": servers}
    with transaction(carriers, "waited") as lost:
        send_untold(lost, left, b"never committed")
        process = asking(tmp_path, config)
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(3)] == ["open\n"] * 3
            assert guard.end() == []
            clock.now += HANGS_S
            assert len(guard.end()) == 1
            assert process.stdout.read().splitlines()[-1] == "none"
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            process.wait()
        lost.abort_transaction()


def test_a_broker_that_hangs_ends_a_question_for_its_topics(carriers: Stack) -> None:
    consumer = BoundedConsumer(
        **carriers.settings.kafka.options, group_id=None, request_timeout_ms=2_000
    )
    try:
        assert consumer.topics()
        pid = carriers.status()["kafka"]["pid"]
        os.kill(pid, signal.SIGSTOP)  # the kernel still accepts its connections
        try:
            with pytest.raises(KafkaError):
                consumer.topics()
        finally:
            os.kill(pid, signal.SIGCONT)
    finally:
        consumer.close()

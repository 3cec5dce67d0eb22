"""A small batch read directly holds what Spark planned: committed events, all of them, no more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from spark_streaming.kafka_source import DirectReader, ExpiredError
from spark_streaming.offsets import BatchSpan
from tests.support.stack import fresh_stack


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with fresh_stack() as stack:
        stack.up("--only", "kafka")
        yield stack.settings.kafka


@pytest.fixture
def topic(broker: str) -> str:
    name = f"hw.public.t{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
    admin.close()
    return name


def _send(broker: str, topic: str, values: list[bytes], *, commit: bool) -> None:
    producer = KafkaProducer(bootstrap_servers=broker, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    producer.begin_transaction()
    for number, value in enumerate(values):
        producer.send(topic, value=value, partition=number % 2, headers=[("h", b"x")])
    producer.flush()
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()
    producer.close()


def _ends(broker: str, topic: str) -> dict[int, int]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker, group_id=None, isolation_level="read_committed"
    )
    found = consumer.end_offsets([TopicPartition(topic, p) for p in (0, 1)])
    consumer.close(autocommit=False)
    return {tp.partition: offset for tp, offset in found.items()}


def test_aborted_events_are_left_out_and_markers_do_not_stall(broker: str, topic: str) -> None:
    reader = DirectReader(broker)
    before = {0: 0, 1: 0}
    for values, commit in (([b"a", b"b"], True), ([b"no", b"no"], False), ([b"c", b"d"], True)):
        _send(broker, topic, values, commit=commit)
        after = _ends(broker, topic)
        read = reader.read(BatchSpan({topic: before}, {topic: after}))
        expected = sorted(values) if commit else []
        assert sorted(e.value or b"" for e in read.get(topic, [])) == expected
        before = after
    whole = reader.read(BatchSpan({}, {topic: before}))[topic]
    assert sorted(e.value or b"" for e in whole) == [b"a", b"b", b"c", b"d"]
    assert {tuple(e.headers) for e in whole} == {(("h", b"x"),)}
    reader.close()


def test_events_that_kafka_has_dropped_are_an_error_that_says_what_there_is(
    broker: str, topic: str
) -> None:
    _send(broker, topic, [b"a", b"b", b"c", b"d"], commit=True)
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.delete_records({TopicPartition(topic, 0): 2})
    admin.close()
    reader = DirectReader(broker)
    span = BatchSpan({topic: {0: 1, 1: 0}}, {topic: _ends(broker, topic)})
    with pytest.raises(
        ExpiredError, match=rf"{topic}, partition 0: offsets from 1 on.* from 2 on"
    ) as raised:
        reader.read(span)
    reader.close()
    assert "hint: bronze has them" in str(raised.value)


def test_events_beyond_the_planned_end_are_left_for_the_next_batch(broker: str, topic: str) -> None:
    _send(broker, topic, [b"a", b"b"], commit=True)
    middle = _ends(broker, topic)
    _send(broker, topic, [b"c", b"d"], commit=True)
    end = _ends(broker, topic)
    reader = DirectReader(broker)
    first = reader.read(BatchSpan({topic: {0: 0, 1: 0}}, {topic: middle}))
    second = reader.read(BatchSpan({topic: middle}, {topic: end}))
    reader.close()
    assert sorted(e.value or b"" for e in first[topic]) == [b"a", b"b"]
    assert sorted(e.value or b"" for e in second[topic]) == [b"c", b"d"]

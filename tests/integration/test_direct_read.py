"""A direct read of a small batch gives exactly the committed events that Spark planned."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.fs as pa_fs
import pytest
from kafka import KafkaAdminClient, TopicPartition

from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.expired_events import Archive, TooManyBytesError
from spark_streaming.reading.kafka_source import DirectReader, ExpiredError
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.storage.kafka_cluster import KafkaCluster
from tests.support.stack import fresh_stack
from tests.support.transactions import ends, new_topic, send


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaCluster]:
    with fresh_stack() as stack:
        stack.up("--only", "kafka")
        yield stack.settings.kafka


@pytest.fixture
def topic(broker: KafkaCluster) -> str:
    name = f"hw.public.t{uuid.uuid4().hex[:8]}"
    new_topic(broker, name)
    return name


def _events(*values: bytes) -> list[RawEvent]:
    """Send events with these values to the topic's two partitions in turn."""
    headers = [("h", b"x")]
    return [RawEvent("", n % 2, 0, 0, None, value, headers) for n, value in enumerate(values)]


def test_aborted_events_are_left_out_and_markers_do_not_stall(
    broker: KafkaCluster, topic: str
) -> None:
    reader = DirectReader(broker)
    before = {0: 0, 1: 0}
    for values, commit in (([b"a", b"b"], True), ([b"no", b"no"], False), ([b"c", b"d"], True)):
        send(broker, topic, _events(*values), commit=commit)
        after = ends(broker, topic)
        read = reader.read(BatchSpan({topic: before}, {topic: after}))
        expected = sorted(values) if commit else []
        assert sorted(e.value or b"" for e in read.get(topic, [])) == expected
        before = after
    whole = reader.read(BatchSpan({}, {topic: before}))[topic]
    assert sorted(e.value or b"" for e in whole) == [b"a", b"b", b"c", b"d"]
    assert {tuple(e.headers) for e in whole} == {(("h", b"x"),)}
    reader.close()


def test_events_that_kafka_has_dropped_are_an_error_that_says_what_there_is(
    broker: KafkaCluster, topic: str
) -> None:
    send(broker, topic, _events(b"a", b"b", b"c", b"d"))
    admin = KafkaAdminClient(**broker.options)
    admin.delete_records({TopicPartition(topic, 0): 2})
    admin.close()
    reader = DirectReader(broker)
    span = BatchSpan({topic: {0: 1, 1: 0}}, {topic: ends(broker, topic)})
    with pytest.raises(
        ExpiredError, match=rf"{topic}, partition 0: offsets from 1 on.* from 2 on"
    ) as raised:
        reader.read(span)
    reader.close()
    assert "headwater verify --bronze" in str(raised.value)


def _archived(folder: Path, events: list[RawEvent]) -> Archive:
    """A bronze bucket with these events of one partition in one object."""
    first = events[0]
    place = folder / first.topic / f"partition={first.partition}" / f"block={0:016}"
    place.mkdir(parents=True)
    lines = [
        {
            "topic": event.topic,
            "partition": event.partition,
            "offset": event.offset,
            "timestamp": event.timestamp_ms,
            "headers": [[name, content.decode()] for name, content in event.headers],
            "key": None,
            "value": (event.value or b"").decode(),
        }
        for event in events
    ]
    text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    (place / f"{first.offset:020}.jsonl.gz").write_bytes(gzip.compress(text))
    return Archive(Bronze(pa_fs.SubTreeFileSystem(str(folder), pa_fs.LocalFileSystem())))


def test_events_that_kafka_has_dropped_come_from_bronze(
    broker: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    for values in ([b"a", b"-", b"b", b"-"], [b"c", b"-", b"d"]):
        send(broker, topic, _events(*values))
    span = BatchSpan({topic: {0: 1, 1: 0}}, {topic: ends(broker, topic)})
    plain = DirectReader(broker)
    before = plain.read(span)
    whole = plain.read(BatchSpan({}, span.end))[topic]
    plain.close()
    mine = [event for event in whole if event.partition == 0]
    reader = DirectReader(broker, _archived(tmp_path / "whole", mine))
    holed = DirectReader(broker, _archived(tmp_path / "holed", [mine[0], mine[-1]]))
    admin = KafkaAdminClient(**broker.options)
    admin.delete_records({TopicPartition(topic, 0): 4})
    admin.close()
    read = reader.read(span)
    assert sorted(read[topic]) == sorted(before[topic])
    with pytest.raises(TooManyBytesError):
        reader.read(span, bytes_max=1)
    with pytest.raises(ExpiredError, match="bronze lacks the offsets 1 to"):
        holed.read(span)
    reader.close()
    holed.close()


def test_events_beyond_the_planned_end_are_left_for_the_next_batch(
    broker: KafkaCluster, topic: str
) -> None:
    send(broker, topic, _events(b"a", b"b"))
    middle = ends(broker, topic)
    send(broker, topic, _events(b"c", b"d"))
    end = ends(broker, topic)
    reader = DirectReader(broker)
    first = reader.read(BatchSpan({topic: {0: 0, 1: 0}}, {topic: middle}))
    second = reader.read(BatchSpan({topic: middle}, {topic: end}))
    reader.close()
    assert sorted(e.value or b"" for e in first[topic]) == [b"a", b"b"]
    assert sorted(e.value or b"" for e in second[topic]) == [b"c", b"d"]

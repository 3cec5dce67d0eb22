"""The bronze sink against a real worker, broker and object store."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from app.connectors.registration import BRONZE, templates
from tests.support.bronze import bronze, committed, objects, store
from tests.support.connectors import Connectors
from tests.support.stack import Stack
from tests.support.waiting import until

BUCKET = "bronze"
ALL_BYTES = bytes(range(256))
LOOKS_ENCODED = b'{"b64":"AAAA"}'


def sink_config(prefix: str, **changes: str) -> dict[str, str]:
    """The shipped configuration, for the topics of one test."""
    return {**templates()[BRONZE], "topics.regex": rf"{prefix}\..+", **changes}


@pytest.fixture
def connectors(carriers: Stack) -> Connectors:
    return Connectors(carriers.settings.connect_url)


@contextmanager
def admin(carriers: Stack) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(**carriers.settings.kafka.options)
    try:
        yield client
    finally:
        client.close()


def make_topics(carriers: Stack, *names: str, partitions: int = 1) -> None:
    with admin(carriers) as client:
        client.create_topics([NewTopic(name, partitions, 1) for name in names])


@contextmanager
def producer(carriers: Stack, transactional_id: str) -> Iterator[KafkaProducer]:
    client = KafkaProducer(
        **carriers.settings.kafka.options,
        transactional_id=transactional_id,
        linger_ms=2,
        max_request_size=16 << 20,
    )
    client.init_transactions()
    try:
        yield client
    finally:
        client.close()


def send(carriers: Stack, topic: str, values: list[bytes | None]) -> None:
    """Commit one transaction of `values`."""
    with producer(carriers, f"{topic}-sender") as client:
        client.begin_transaction()
        for value in values:
            client.send(topic, key=b"k", value=value, partition=0)
        client.commit_transaction()


def await_bronze_equals_kafka(carriers: Stack, prefix: str, within_s: float = 120) -> int:
    """Wait until bronze has each record of Kafka once; returns their number."""
    wanted = committed(carriers.settings, f"{prefix}.")

    def kept() -> int:
        return len(bronze(carriers.settings, BUCKET, f"{prefix}."))

    until(kept, lambda n: n >= len(wanted), within_s=within_s, what="bronze is complete", every_s=1)
    records = bronze(carriers.settings, BUCKET, f"{prefix}.")
    assert len(records) == len({place for place, _ in records})
    assert dict(records) == wanted
    return len(wanted)


def await_kept(carriers: Stack, prefix: str, count: int, within_s: float = 60) -> None:
    until(
        lambda: len(bronze(carriers.settings, BUCKET, f"{prefix}.")),
        lambda n: n == count,
        within_s=within_s,
        what=f"{count} records of {prefix} in bronze",
    )


class Writer(threading.Thread):
    """Commits and aborts small transactions over all topics until it is told to stop."""

    def __init__(self, carriers: Stack, topics: list[str], partitions: int, seed: int) -> None:
        super().__init__()
        self._carriers, self._topics, self._partitions = carriers, topics, partitions
        self._random = random.Random(seed)
        self._stop_asked = threading.Event()
        self.committed = 0

    def run(self) -> None:
        with producer(self._carriers, self._topics[0]) as client:
            while not self._stop_asked.wait(0.01):
                self._transaction(client)

    def _transaction(self, client: KafkaProducer) -> None:
        count = self._random.randint(1, 20)
        client.begin_transaction()
        for _ in range(count):
            value = self._value()
            client.send(
                self._random.choice(self._topics),
                # The client sends no record that is null on both sides.
                key=self._random.choice([b"", b'{"id":1}', ALL_BYTES, None if value else b"k"]),
                value=value,
                headers=self._random.choice([[], [("h", ALL_BYTES), ("h", b"\x00text")]]),
                partition=self._random.randrange(self._partitions),
            )
        if self._random.random() < 0.1:
            client.flush()
            client.abort_transaction()
        else:
            client.commit_transaction()
            self.committed += count

    def _value(self) -> bytes | None:
        text = json.dumps({"n": self._random.random(), "s": 'é"\\\u2028\x01' * 10}).encode()
        size = self._random.randrange(100)
        return self._random.choice(
            [None, b"", LOOKS_ENCODED, self._random.randbytes(size), text, text, text]
        )

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(timeout=60)
        assert not self.is_alive()


def test_every_record_is_kept_exactly_once_through_kills_of_worker_and_store(
    carriers: Stack, connectors: Connectors, seed: int
) -> None:
    topics = ["kills.a", "kills.b", "kills.c"]
    make_topics(carriers, *topics, partitions=2)
    connectors.put("kills", sink_config("kills"))
    writer = Writer(carriers, topics, 2, seed)
    writer.start()
    try:
        for service in ("connect", "s3", "connect"):
            enough = writer.committed + 300
            until(
                lambda at=enough: writer.committed >= at,  # type: ignore[misc]
                within_s=120,
                what="the writer goes on",
            )
            carriers.kill(service)
    finally:
        writer.stop()
    assert await_bronze_equals_kafka(carriers, "kills") == writer.committed
    connectors.delete("kills")


def test_two_tasks_that_write_the_same_partitions_repeat_nothing(
    carriers: Stack, connectors: Connectors, seed: int
) -> None:
    make_topics(carriers, "rivals.a", partitions=2)
    for name in ("rivals-one", "rivals-two"):
        connectors.put(name, sink_config("rivals", **{"flush.interval.ms": "100"}))
    writer = Writer(carriers, ["rivals.a"], 2, seed)
    writer.start()
    try:
        until(lambda: writer.committed >= 1000, within_s=120, what="the writer goes on")
    finally:
        writer.stop()
    assert await_bronze_equals_kafka(carriers, "rivals") == writer.committed
    for name in ("rivals-one", "rivals-two"):
        connectors.await_state(name, "RUNNING")
        connectors.delete(name)


def test_a_single_record_on_a_quiet_topic_is_kept_without_another_behind_it(
    carriers: Stack, connectors: Connectors
) -> None:
    make_topics(carriers, "quiet.a")
    connectors.put("quiet", sink_config("quiet"))
    send(carriers, "quiet.a", [b"alone"])
    assert await_bronze_equals_kafka(carriers, "quiet") == 1
    [path] = objects(carriers.settings, BUCKET, "quiet.")
    assert path == "bronze/quiet.a/partition=0/block=0000000000000000/00000000000000000000.jsonl.gz"
    connectors.delete("quiet")


def test_records_larger_than_the_sinks_whole_buffer_are_kept(
    carriers: Stack, connectors: Connectors, seed: int
) -> None:
    make_topics(carriers, "large.a")
    chosen = random.Random(seed)
    send(carriers, "large.a", [chosen.randbytes(5 << 20).hex().encode(), b"small"] * 5)
    limits = {"buffer.bytes.max": "1048576", "flush.bytes": "524288"}
    connectors.put("large", sink_config("large", **limits))
    assert await_bronze_equals_kafka(carriers, "large") == 10
    connectors.delete("large")


def test_markers_that_expired_behind_the_last_record_are_not_taken_for_lost_events(
    carriers: Stack, connectors: Connectors
) -> None:
    make_topics(carriers, "markers.a")
    connectors.put("markers", sink_config("markers"))
    send(carriers, "markers.a", [b"0", b"1"])  # The commit marker stands at offset 2.
    await_kept(carriers, "markers", 2)
    until(
        lambda: connectors.committed("markers", "markers.a"),
        lambda offset: offset == 3,
        within_s=60,
        what="the place behind the marker is committed",
    )
    connectors.stop("markers")
    with admin(carriers) as client:
        client.delete_records({TopicPartition("markers.a", 0): 3})
    connectors.resume("markers")
    send(carriers, "markers.a", [b"3"])
    await_kept(carriers, "markers", 3)
    connectors.delete("markers")


@pytest.mark.parametrize("first_offsets", [[0], range(0, 1200), [0, 9_999, 10_000, 20_001]])
def test_the_last_object_is_found_among_many_and_without_its_metadata(
    carriers: Stack, connectors: Connectors, first_offsets: Sequence[int]
) -> None:
    prefix = f"many{first_offsets[-1]}"
    topic = f"{prefix}.a"
    make_topics(carriers, topic)
    send(carriers, topic, [b"x"] * (first_offsets[-1] + 3))
    for offset in first_offsets:  # Like after a copy by a tool: only names and bodies.
        put_copied_object(carriers, topic, offset)
    connectors.put(prefix, sink_config(prefix))
    await_kept(carriers, prefix, len(first_offsets) + 2, within_s=120)
    last = objects(carriers.settings, BUCKET, f"{prefix}.")[-1]
    assert last.endswith(f"/{first_offsets[-1] + 1:020d}.jsonl.gz")
    connectors.delete(prefix)


def test_a_folders_mark_that_a_tool_left_is_not_taken_for_an_object(
    carriers: Stack, connectors: Connectors
) -> None:
    make_topics(carriers, "marked.a")
    connectors.put("marked", sink_config("marked"))
    send(carriers, "marked.a", [b"before"])
    await_kept(carriers, "marked", 1)
    connectors.delete("marked")
    [path] = objects(carriers.settings, BUCKET, "marked.")
    for folder in (path.rpartition("/")[0], f"{BUCKET}/marked.a/partition=0/block={1:016d}"):
        store(carriers.settings).create_dir(folder)
    send(carriers, "marked.a", [b"after"])
    connectors.put("marked", sink_config("marked"))
    assert await_bronze_equals_kafka(carriers, "marked") == 2
    connectors.delete("marked")


def put_copied_object(carriers: Stack, topic: str, offset: int) -> None:
    line = {"topic": topic, "partition": 0, "offset": offset}
    line |= {"timestamp": 1, "headers": [], "key": None, "value": "x"}
    body = gzip.compress(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    block = f"block={offset // 10_000:016d}"
    path = f"{BUCKET}/{topic}/partition=0/{block}/{offset:020d}.jsonl.gz"
    # A plain file has no metadata, and is written a hundred times faster than by HTTP.
    file = carriers.home / "data" / "s3" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)


def test_the_rest_interface_never_shows_the_stores_secrets(
    carriers: Stack, connectors: Connectors
) -> None:
    make_topics(carriers, "hidden.a")
    connectors.put("hidden", sink_config("hidden"))
    connectors.await_state("hidden", "RUNNING")
    shown = connectors.shown("hidden")
    assert "${env:HEADWATER_S3_SECRET_KEY}" in shown
    assert carriers.settings.secret("s3_secret_key") not in shown
    assert carriers.settings.secret("s3_access_key") not in shown
    connectors.delete("hidden")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"flush.intervall.ms": "5"}, "unknown setting `flush.intervall.ms`"),
        ({"consumer.override.isolation.level": "read_uncommitted"}, "must be read_committed"),
        ({"consumer.override.interceptor.classes": ""}, "must name dev.headwater.bronze"),
        ({"s3.secret.key": ""}, "must be given together"),
        ({"transforms": "filter"}, "transforms must be left out"),
        ({"gzip.level": "11"}, "Value must be no more than 9"),
        ({"on.gap": "shrug"}, "String must be one of: fail, skip"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_starts(
    connectors: Connectors, changes: dict[str, str], problem: str
) -> None:
    errors = connectors.errors(sink_config("checked", **changes))
    assert any(problem in error for error in errors), errors

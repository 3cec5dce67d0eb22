"""Reads bronze and Kafka as the same plain records, and writes bronze like the sink."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow.fs as pafs
from kafka import KafkaConsumer, TopicPartition

from app.environment.settings import Settings
from spark_streaming.events.event import RawEvent

READ_TIMEOUT_MS = 60_000


class Kept(NamedTuple):
    """One record as Kafka delivers it and as bronze must store it, with unchanged bytes."""

    timestamp_ms: int | None
    headers: tuple[tuple[str, bytes | None], ...]
    key: bytes | None
    value: bytes | None


class Place(NamedTuple):
    topic: str
    partition: int
    offset: int


def store(settings: Settings) -> pafs.S3FileSystem:
    """The stack's object store, by its own protocol."""
    return pafs.S3FileSystem(
        access_key=settings.secret("s3_access_key"),
        secret_key=settings.secret("s3_secret_key"),
        endpoint_override=settings.store.endpoint.split("//")[1],
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )


def objects(settings: Settings, bucket: str, prefix: str) -> list[str]:
    """The paths of the objects whose topic begins with `prefix`, sorted."""
    found = store(settings).get_file_info(pafs.FileSelector(bucket, recursive=True))
    return sorted(
        info.path
        for info in found
        if info.type == pafs.FileType.File and info.path.startswith(f"{bucket}/{prefix}")
    )


def bronze(settings: Settings, bucket: str, prefix: str) -> list[tuple[Place, Kept]]:
    """Every line of every object below `prefix`, in order; a repeated record is there twice."""
    files = store(settings)
    lines: list[tuple[Place, Kept]] = []
    for path in objects(settings, bucket, prefix):
        with files.open_input_stream(path, compression=None) as stream:
            body = gzip.decompress(stream.read())
        lines += [_record(json.loads(line)) for line in body.decode().splitlines()]
    return lines


def committed(settings: Settings, prefix: str) -> dict[Place, Kept]:
    """The committed records of the topics that begin with `prefix`."""
    consumer = KafkaConsumer(
        **settings.kafka.options,
        isolation_level="read_committed",
        enable_auto_commit=False,
        consumer_timeout_ms=READ_TIMEOUT_MS,
    )
    try:
        partitions = [
            TopicPartition(topic, partition)
            for topic in consumer.topics()
            if topic.startswith(prefix)
            for partition in consumer.partitions_for_topic(topic) or ()
        ]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        found: dict[Place, Kept] = {}
        while any(consumer.position(p) < ends[p] for p in partitions):
            for partition, records in consumer.poll(timeout_ms=200).items():
                for r in records:
                    if r.offset >= ends[partition]:
                        continue  # came after the end was read
                    headers = tuple((name, value) for name, value in r.headers)
                    place = Place(r.topic, r.partition, r.offset)
                    found[place] = Kept(r.timestamp, headers, r.key, r.value)
        return found
    finally:
        consumer.close()


def _record(line: dict[str, Any]) -> tuple[Place, Kept]:
    headers = tuple((name, _bytes(value)) for name, value in line["headers"])
    kept = Kept(line["timestamp"], headers, _bytes(line["key"]), _bytes(line["value"]))
    return Place(line["topic"], line["partition"], line["offset"]), kept


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def write(files: Any, events: Sequence[RawEvent], records_max: int) -> None:
    """Put events of one partition into bronze like the sink, with `records_max` in each object.

    files: a pyarrow file system rooted at the bucket.
    """
    for begin in range(0, len(events), records_max):
        some = events[begin : begin + records_max]
        first = some[0]
        block = f"{first.topic}/partition={first.partition}/block={first.offset // 10_000:016}"
        body = "".join(json.dumps(_line(event)) + "\n" for event in some).encode()
        files.create_dir(block, recursive=True)
        path = f"{block}/{first.offset:020}.jsonl.gz"
        with files.open_output_stream(path, compression=None) as stream:
            stream.write(gzip.compress(body))


def _line(event: RawEvent) -> dict[str, Any]:
    return {
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "timestamp": event.timestamp_ms,
        "headers": [[name, _text(value)] for name, value in event.headers],
        "key": _text(event.key),
        "value": _text(event.value),
    }


def _text(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}

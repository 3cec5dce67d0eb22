"""Shows the origin of a miscounted transaction's events: bronze's lines and Kafka's batches.

A doubled event has one of three causes: an offset is in two objects; the connector sent the event
again (two offsets, one position of the log); or a Kafka transaction was aborted elsewhere and committed
here (two offsets, batches of two producer epochs, no marker between them).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.lake.lakehouse import Lakehouse
from spark_streaming.reading.bronze import Bronze
from tests.support.stack import Stack

SHOWN = 3
# The line of `verify --bronze` for a wrong count (`app/counts/count_report.py`).
_WRONG = re.compile(
    r"(?:short|surplus): transaction (\d+) at LSN \S+ has \S+ events of (\S+) in bronze"
)
# Of a batch: its first offset, length, epoch of the leader, magic, checksum, attributes, last offset's
# distance, two times, the producer, its epoch, its first number, how many records.
_HEADER = struct.Struct(">qiibihiqqqhii")
_TRANSACTIONAL, _CONTROL = 0x10, 0x20
_LENGTH_FROM = 12  # a batch's length does not count its first offset and itself


class Batch(NamedTuple):
    """A batch of a partition's log without its records; `marker`: how it ends a transaction."""

    first: int
    last: int
    producer: int
    epoch: int
    sequence: int
    is_transactional: bool
    marker: str | None


def batches(folder: Path) -> Iterator[Batch]:
    """The batches of a partition's segments in order, including aborted ones and markers."""
    for path in sorted(folder.glob("*.log")):
        body = path.read_bytes()
        at = 0
        while at + _HEADER.size <= len(body):
            found = _HEADER.unpack_from(body, at)
            first, length, attributes, distance = found[0], found[1], found[5], found[6]
            producer, epoch, sequence = found[9], found[10], found[11]
            if length <= 0:
                break  # preallocated
            marker = None
            if attributes & _CONTROL:
                # The one record: length, attributes, time, offset (a byte each), the key's length, its
                # version and type, two bytes each.
                [kind] = struct.unpack_from(">h", body, at + _HEADER.size + 7)
                marker = {0: "ABORT", 1: "COMMIT"}.get(kind, str(kind))
            transactional = bool(attributes & _TRANSACTIONAL)
            last = first + distance
            yield Batch(first, last, producer, epoch, sequence, transactional, marker)
            at += _LENGTH_FROM + length


def explain(stack: Stack, said: str) -> str:
    """Describe the first wrong counts in the stderr of `verify --bronze`."""
    prefix = stack.settings.topic_prefix
    lines: list[str] = []
    for xid, table in list(dict.fromkeys(_WRONG.findall(said)))[:SHOWN]:
        topic = f"{prefix}.{table}"
        lines.append(f"transaction {xid}, {topic}:")
        places = list(_events(stack, topic, int(xid), lines))
        lines += _around(stack, topic, places)
    return "\n".join(lines)


def _events(stack: Stack, topic: str, xid: int, lines: list[str]) -> Iterator[tuple[int, int]]:
    bronze = Bronze(Lakehouse(stack.settings).bronze_files())
    for partition in bronze.partitions(topic):
        for path in bronze.objects(topic, partition):
            for document in bronze.documents(path):
                value = json.loads(document["value"]) if document["value"] else {}
                block, source = value.get("transaction") or {}, value.get("source") or {}
                if xid not in (source.get("txId"), int(block.get("id", "0:").split(":")[0])):
                    continue
                kept = ("ts_ms", "snapshot", "txId", "sequence", "lsn")
                lines.append(
                    f"  {path} offset {document['offset']} at {document['timestamp']}:"
                    f" op {value.get('op')}, source { {k: source.get(k) for k in kept} },"
                    f" transaction {block}, headers {document['headers']}"
                )
                yield partition, int(document["offset"])


def _around(stack: Stack, topic: str, places: list[tuple[int, int]]) -> Iterator[str]:
    """The partition's batches from the one before the first event's to the one after the last event's."""
    for partition in sorted({partition for partition, _ in places}):
        offsets = [offset for number, offset in places if number == partition]
        found = list(batches(stack.home / "data" / "kafka" / f"{topic}-{partition}"))
        inside = [n for n, one in enumerate(found) if one.last >= min(offsets)]
        behind = [n for n, one in enumerate(found) if one.first > max(offsets)]
        if inside:
            yield f"  batches of partition {partition}:"
            for one in found[max(0, inside[0] - 2) : (behind or [len(found)])[0] + 3]:
                yield f"    {one}"

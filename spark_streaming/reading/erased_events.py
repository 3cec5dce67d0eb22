"""Erased events: what takes an event's place in bronze when its row is erased by law.

An erased event keeps its place: topic, partition, offset, time. Key and value are null, so every reader takes it for a
tombstone, which changes no row. Its only header says what it was, without a value of the row: operation, position in
the source's log, number in its transaction. By these `app/counts` counts it like the event that it replaces.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from spark_streaming.reading.bronze_proof import compressed, header_bytes

HEADER = "headwater.erased"


class Erasure(NamedTuple):
    """Which erasure replaces an event: its id, and when it was asked for (ISO 8601)."""

    id: str
    at: str


def is_erased(headers: Sequence[Sequence[Any]]) -> bool:
    """Whether a record with these headers (name first) takes the place of an erased event."""
    return len(headers) == 1 and headers[0][0] == HEADER


def replacement(document: Mapping[str, Any], erasure: Erasure) -> dict[str, Any]:
    """Return the line that takes the place of an event's line in bronze (as parsed JSON)."""
    said: dict[str, Any] = {"erasure": erasure.id, "at": erasure.at, **_kept(document["value"])}
    return {
        "topic": document["topic"],
        "partition": document["partition"],
        "offset": document["offset"],
        "timestamp": document["timestamp"],
        "headers": [[HEADER, orjson.dumps(said).decode()]],
        "key": None,
        "value": None,
    }


def _kept(value: Any) -> dict[str, Any]:
    """Return what stays of an event's value: nothing that came from the row."""
    try:
        event = orjson.loads(value) if isinstance(value, str) else None
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(event, dict):
        return {}  # a tombstone, or no event at all
    # `app/counts` finds the block `transaction` by its text, and the position in `source` before it.
    return {name: event[name] for name in ("op", "source", "transaction") if event.get(name)}


def rewritten(packed: bytes, offsets: Collection[int], erasure: Erasure) -> bytes | None:
    """Return an object of bronze in which the events at these offsets are erased.

    All other lines, and the proof in the header of the gzip stream, stay byte for byte.

    Args:
        packed: the object as stored.
    Returns: the new object; None if all of these events are erased already.
    Raises: ValueError if an offset is not in the object, or a line is not a record.
    """
    body = gzip.decompress(packed)
    lines, found, changed = [], set(), False
    for line in body.splitlines(keepends=True):
        document = orjson.loads(line)
        offset = int(document["offset"])
        if offset in offsets:
            found.add(offset)
            if not is_erased(document["headers"]):
                line = _line(replacement(document, erasure))
                changed = True
        lines.append(line)
    if missing := set(offsets) - found:
        raise ValueError(f"the object does not hold offset {min(missing)}")
    return compressed(b"".join(lines), packed[: header_bytes(packed)]) if changed else None


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

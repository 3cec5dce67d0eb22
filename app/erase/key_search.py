"""Finds all events of some keys in a topic's bronze, tombstones included, from its first object to its last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from app.erase.row_lives import KeyEvent, in_order
from app.trace.trace_event import lsn_of, op_of
from app.trace.trace_key import RowKey, images_of, key_in
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.events.row_images import NEW_KEY_HEADER, OLD_KEY_HEADER
from spark_streaming.reading.bronze import Bronze, event_of
from spark_streaming.reading.erased_events import is_erased

# Unpacking releases the interpreter's lock, so objects are fetched while others are unpacked.
THREADS = 3
AHEAD = 5


@dataclass
class Searched:
    """What a search found: each key's events in order; the next offset of each partition; objects and lines read."""

    events: dict[RowKey, list[KeyEvent]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    objects: int = 0


def search(
    bronze: Bronze,
    topic: str,
    keys: Sequence[RowKey],
    tick: Callable[[int], None] = lambda _: None,
) -> Searched:
    """Search all partitions of a topic for the events of some keys.

    Args:
        tick: called after each object with how many were read.
    Raises: UnreadableObjectError; OSError if the object store does not answer.
    """
    found = Searched({key: [] for key in keys})
    for partition in bronze.partitions(topic):
        last: dict[RowKey, bool] = {}
        for path, body in _bodies(bronze, topic, partition):
            found.objects += 1
            tick(found.objects)
            lines = _lines(body, keys)
            for document in lines:
                event = event_of(document)
                if event.offset < found.ends.get(partition, 0):
                    continue  # read before its object was packed
                for key in keys:
                    if _is_of(event, key, last):
                        found.events[key].append(_described(event, path, key))
            found.ends[partition] = _last_offset(body) + 1
    for key, events in found.events.items():
        found.events[key] = in_order(events)
    return found


def is_of_any(event: RawEvent, keys: Sequence[RowKey]) -> bool:
    """Whether an event with a value is one of these keys'."""
    return event.value is not None and any(key.owns(event.key, event.value) for key in keys)


def _bodies(bronze: Bronze, topic: str, partition: int) -> Iterator[tuple[str, bytes]]:
    paths = bronze.objects(topic, partition)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="erase") as pool:
        running: deque[tuple[str, Future[bytes]]] = deque()

        def more() -> None:
            for path in islice(paths, AHEAD - len(running)):
                running.append((path, pool.submit(bronze.content, path)))

        more()
        while running:
            path, future = running.popleft()
            yield path, future.result()
            more()


def _lines(body: bytes, keys: Sequence[RowKey]) -> Iterator[dict[str, Any]]:
    """Yield the lines that may be events of the keys, parsed, in their order.

    The tombstone of a row that is named by its values has a key of its own, so then every line is yielded.
    """
    if any(key.in_rows for key in keys):
        yield from (orjson.loads(line) for line in body.splitlines())
        return
    begins = set()
    for needle in {needle for key in keys for needle in key.needles()}:
        at = body.find(needle)
        while at >= 0:
            begins.add(body.rfind(b"\n", 0, at) + 1)
            end = body.find(b"\n", at)
            at = body.find(needle, end) if end >= 0 else -1
    for begin in sorted(begins):
        yield orjson.loads(body[begin : body.find(b"\n", begin)])


def _is_of(event: RawEvent, key: RowKey, last: dict[RowKey, bool]) -> bool:
    """Check whether an event is the key's.

    Args:
        last: key → whether the line before was its delete; kept up to date here.
    """
    if is_erased(event.headers):
        return False
    if event.value is None and key.in_rows:
        return last.pop(key, False)
    owns = key.matches(event.key) if event.value is None else key.owns(event.key, event.value)
    if key.in_rows:
        last[key] = owns and op_of(event) == "d"
    return owns


def _described(event: RawEvent, path: str, key: RowKey) -> KeyEvent:
    op = op_of(event)
    came, went = (_by_values if key.in_rows else _by_headers)(event, op, key)
    lsn = lsn_of(event) or LOG_START
    return KeyEvent(event.partition, event.offset, path, Lsn(lsn), op, came, went)


def _by_headers(event: RawEvent, op: str, key: RowKey) -> tuple[RowKey | None, RowKey | None]:
    came = went = None
    for name, value in event.headers:
        if name == OLD_KEY_HEADER and op == "c":
            came = _key_of(key, value)
        elif name == NEW_KEY_HEADER and op == "d":
            went = _key_of(key, value)
    return came, went


def _by_values(event: RawEvent, op: str, key: RowKey) -> tuple[RowKey | None, RowKey | None]:
    """A row that is named by its values changes its key in one event."""
    before, after = (key_in(key, image) for image in images_of(event.value))
    if op != "u" or before is None or after is None or before == after:
        return None, None
    return (before, None) if after == key else (None, after)


def _key_of(key: RowKey, value: bytes) -> RowKey | None:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return key_in(key, document if isinstance(document, dict) else None)


def _last_offset(body: bytes) -> int:
    return int(orjson.loads(body[body.rfind(b"\n", 0, -1) + 1 :])["offset"])

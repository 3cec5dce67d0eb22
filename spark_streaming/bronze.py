"""Bronze: every event of every topic, as it stands in the object store; layout in connect/README.md.

Read here in the order of offsets, from any offset on, and several partitions in the order of time.
"""

from __future__ import annotations

import base64
import gzip
import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
import pyarrow.fs as pa_fs

from spark_streaming.events import RawEvent

OBJECT = ".jsonl.gz"
BLOCK_OFFSETS = 10_000
# Unpacking asks for some KB at a time: without a buffer each of those is a request to the store.
READ_BYTES = 1 << 20
# Between two records stands at most the marker that ends a transaction; an aborted one leaves more.
MARKER_OFFSETS_MAX = 1
_PARTITION = "partition="
_BLOCK = "block="

# Called with (partition, first, last) of offsets that bronze lacks; raises where they had records.
Explain = Callable[[int, int, int], None]


class UnreadableObjectError(Exception):
    """An object is no gzip, or a line in it is no record; the text says which and why."""


class Bronze:
    """A bronze bucket.

    Args:
        files: a pyarrow file system rooted at the bucket.
    """

    def __init__(self, files: Any) -> None:
        self._files = files

    def topics(self) -> list[str]:
        """The topics that have objects, sorted."""
        return [path for path in self._below("") if self._below(path)]

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic that have objects, sorted."""
        return sorted(
            int(path.rsplit(_PARTITION, 1)[1]) for path in self._below(topic) if _PARTITION in path
        )

    def objects(self, topic: str, partition: int, after: str = "") -> Iterator[str]:
        """The paths of a partition's objects in the order of their offsets, from behind `after`.

        A block of 10,000 offsets is listed at a time.
        """
        for block in self.blocks(topic, partition):
            if block < after.rsplit("/", 1)[0]:
                continue
            # The store shows a put that is under way by its name with a UUID behind it.
            yield from (p for p in self._below(block) if p.endswith(OBJECT) and p > after)

    def objects_newest_first(
        self, topic: str, partition: int, before: int | None = None
    ) -> Iterator[str]:
        """The paths of a partition's objects, the newest first, of those that begin below the
        offset `before`. A block is listed at a time."""
        for block in reversed(self.blocks(topic, partition)):
            if before is not None and block_number(block) * BLOCK_OFFSETS >= before:
                continue
            found = [path for path in self._below(block) if path.endswith(OBJECT)]
            yield from (p for p in reversed(found) if before is None or first_offset(p) < before)

    def first_timestamp(self, block: str) -> int | None:
        """Kafka's time (ms since 1970) of the first record of a block; None without objects."""
        for path in self._below(block):
            if path.endswith(OBJECT):
                return int(next(self.documents(path))["timestamp"] or 0)
        return None

    def content(self, path: str) -> bytes:
        """The lines of an object, unpacked, as they stand in it.

        Raises: UnreadableObjectError; OSError where the store does not answer.
        """
        with self._files.open_input_stream(path, compression=None) as stream:
            packed = stream.read()
        try:
            return gzip.decompress(packed)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UnreadableObjectError(f"{path}: {type(error).__name__}: {error}") from error

    def put_at(self, path: str) -> datetime | None:
        """When an object was put, as the store says; None where it does not say."""
        found: datetime | None = self._files.get_file_info(path).mtime
        return found

    def last_offset(self, topic: str, partition: int) -> int:
        """The first offset of a partition's last object: the end, for an estimate; 0 without."""
        newest = next(self.objects_newest_first(topic, partition), None)
        return 0 if newest is None else first_offset(newest)

    def size(self, topic: str) -> int:
        """The bytes that a topic's objects take, as they are stored."""
        selector = pa_fs.FileSelector(topic, allow_not_found=True, recursive=True)
        return sum(info.size or 0 for info in self._files.get_file_info(selector) if info.is_file)

    def documents(self, path: str) -> Iterator[dict[str, Any]]:
        """The lines of an object, parsed.

        Raises: UnreadableObjectError; OSError where the store does not answer.
        """
        opened = self._files.open_input_stream(path, compression=None, buffer_size=READ_BYTES)
        with opened as stream:
            try:
                with gzip.GzipFile(fileobj=stream) as text:
                    for line in text:
                        document = orjson.loads(line)
                        int(document["offset"])
                        yield document
            except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError) as error:
                raise UnreadableObjectError(f"{path}: {type(error).__name__}: {error}") from error

    def events(
        self, topic: str, partition: int, start: int, explain: Explain
    ) -> Iterator[RawEvent]:
        """The events of a partition from offset `start` on, each once, as far as bronze has them.

        Raises: UnreadableObjectError, and whatever `explain` raises where offsets are missing.
        """
        expected = start
        for path in self._objects_from(topic, partition, start):
            for document in self.documents(path):
                event = event_of(document)
                if event.offset < expected:
                    continue
                if event.offset - expected > MARKER_OFFSETS_MAX:
                    explain(partition, expected, event.offset - 1)
                expected = event.offset + 1
                yield event

    def _objects_from(self, topic: str, partition: int, start: int) -> Iterator[str]:
        """The objects that may hold `start` or later offsets."""
        blocks = self.blocks(topic, partition)
        names = [block_number(block) for block in blocks]
        # What holds `start` may have begun in the block before.
        upto = sum(1 for name in names if name <= start // BLOCK_OFFSETS)
        waiting = ""
        for block in blocks[max(0, upto - 2) :]:
            for path in self._below(block):
                if not path.endswith(OBJECT):
                    continue
                if waiting and first_offset(path) > start:
                    yield waiting
                waiting = path
        if waiting:
            yield waiting

    def blocks(self, topic: str, partition: int) -> list[str]:
        """The folders of a partition's blocks, in the order of their offsets."""
        return [p for p in self._below(f"{topic}/{_PARTITION}{partition}") if _BLOCK in p]

    def _below(self, folder: str) -> list[str]:
        selector = pa_fs.FileSelector(folder, allow_not_found=True)
        return sorted(str(info.path) for info in self._files.get_file_info(selector))


def block_number(block: str) -> int:
    """The number of a block's folder: its objects begin at that many BLOCK_OFFSETS or later."""
    return int(block.rsplit(_BLOCK, 1)[1])


def first_offset(path: str) -> int:
    """The offset that an object is named by."""
    return int(path.rsplit("/", 1)[1].split(".")[0])


def bytes_of(value: Any) -> bytes | None:
    """A key, value or header's content as the line has it."""
    if value is None:
        return None
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def event_of(document: Mapping[str, Any]) -> RawEvent:
    """A line as the event that Kafka gave."""
    return RawEvent(
        document["topic"],
        document["partition"],
        document["offset"],
        document["timestamp"] or 0,
        bytes_of(document["key"]),
        bytes_of(document["value"]),
        [(name, bytes_of(content) or b"") for name, content in document["headers"]],
    )


class Feed:
    """A topic's events of all partitions in the order of their times, some at a time.

    Events that belong together, as the two halves of a key change, are then seldom cut apart,
    whichever partitions they are in. Holds one event a partition beyond what it gave.

    Args:
        partitions: number → events in the order of their offsets.
        before_ms: takes no event of this time (ms since 1970) or a later one; None takes all.
    """

    def __init__(
        self, partitions: Mapping[int, Iterable[RawEvent]], before_ms: int | None = None
    ) -> None:
        self._events = {number: iter(events) for number, events in partitions.items()}
        self._before_ms = before_ms
        self._heads: list[tuple[int, int, RawEvent]] = []
        for number in self._events:
            self._advance(number)

    def take(self, events_max: int, bytes_max: int) -> list[RawEvent]:
        """The next events; empty at the end.

        A limit is passed by what came in the same millisecond, up to twice the limit.
        """
        taken: list[RawEvent] = []
        size = 0
        while self._heads:
            time_ms, number, event = self._heads[0]
            full = len(taken) >= events_max or size >= bytes_max
            beyond = len(taken) >= 2 * events_max or size >= 2 * bytes_max
            if full and (beyond or time_ms != taken[-1].timestamp_ms):
                break
            taken.append(event)
            size += len(event.value or b"")
            heapq.heappop(self._heads)
            self._advance(number)
        return taken

    def take_until(self, ends: Mapping[int, int]) -> list[RawEvent]:
        """The next events of each partition below its end, which were given out before."""
        taken = []
        for _, number, event in self._heads:
            head: RawEvent | None = event
            while head is not None and head.offset < ends.get(number, 0):
                taken.append(head)
                head = next(self._events[number], None)
            if head is not None:
                self._events[number] = _behind(head, self._events[number])
        self._heads = []
        for number in self._events:
            self._advance(number)
        return taken

    def _advance(self, number: int) -> None:
        event = next(self._events[number], None)
        if event is None:
            return
        if self._before_ms is not None and event.timestamp_ms >= self._before_ms:
            self._events[number] = iter(())
            return
        heapq.heappush(self._heads, (event.timestamp_ms, number, event))


def _behind(first: RawEvent, rest: Iterator[RawEvent]) -> Iterator[RawEvent]:
    yield first
    yield from rest

"""Reads bronze: every event of every topic, in the object store. connect/README.md has the layout.

One partition is read in the order of its offsets, from any offset on; several are read by time.
"""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
import pyarrow.fs as pa_fs

from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze_names import (
    ARCHIVE,
    BLOCK,
    BLOCK_OFFSETS,
    OBJECT,
    PARTITION,
    block_number,
    first_offset,
    not_packed,
    packed_beyond,
    packed_span,
    partition_folder,
    spans_beyond,
    state_path,
)
from spark_streaming.reading.bronze_proof import Proof, proof_of, unproven

# Before a partition's first offset.
NONE = -1
_BEFORE = "/before"

# Called with (partition, first, last) if bronze lacks these offsets and they may have had records;
# raises if they had records.
Explain = Callable[[int, int, int], None]


class UnreadableObjectError(Exception):
    """An object is not gzip, or a line in it is not a record; the message says which and why."""


class Bronze:
    """A bronze bucket.

    Args:
        files: a pyarrow file system rooted at the bucket.
    """

    def __init__(self, files: Any) -> None:
        self._files = files

    def topics(self) -> list[str]:
        """Return the topics that have objects, sorted."""
        return [path for path in self._below("") if self._below(path)]

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic that have objects, sorted."""
        return sorted(
            int(path.rsplit(PARTITION, 1)[1]) for path in self._below(topic) if PARTITION in path
        )

    def objects(self, topic: str, partition: int, after: str = "") -> Iterator[str]:
        """Yield the paths of a partition's objects in the order of their offsets, after path `after`.

        A block of 10,000 offsets is listed at a time. If `after` has been packed since it was read, or objects are
        packed meanwhile, a packed object is yielded that begins with offsets of earlier ones: skip these.
        """
        return self._walk(topic, partition, self._offset_after(after))

    def objects_newest_first(
        self, topic: str, partition: int, before: int | None = None
    ) -> Iterator[str]:
        """Yield the paths of a partition's objects that begin below offset `before`, newest first.

        A block is listed at a time.
        """
        spans = self._below(f"{partition_folder(topic, partition)}/{ARCHIVE}")
        packed_to = self._packed_to(spans)
        for block in reversed(self._blocks(topic, partition)):
            if before is not None and block_number(block) * BLOCK_OFFSETS >= before:
                continue
            if (block_number(block) + 1) * BLOCK_OFFSETS <= packed_to:
                break
            found = not_packed(self._objects_in(block), packed_to)
            yield from (p for p in reversed(found) if before is None or first_offset(p) < before)
        for span in reversed(spans_beyond(spans, NONE)):
            found = packed_beyond(self._below(span), NONE)
            yield from (p for p in reversed(found) if before is None or first_offset(p) < before)

    def sections(self, topic: str, partition: int) -> list[str]:
        """Return a partition's packed objects and the folders of its blocks behind them, in the order of their offsets.

        A search halves this list; `section_offset` and `first_timestamp` say where a section begins.
        """
        packed = list(self._packed_beyond(topic, partition, NONE))
        span = packed_span(packed[-1]) if packed else None
        packed_to = NONE if span is None else span.last
        blocks = self._blocks(topic, partition)
        return packed + [b for b in blocks if (block_number(b) + 1) * BLOCK_OFFSETS > packed_to]

    def first_timestamp(self, section: str) -> int | None:
        """Return Kafka's time (ms since 1970) of a section's first record; None if it is empty."""
        for path in [section] if section.endswith(OBJECT) else self._objects_in(section):
            return int(next(self.documents(path))["timestamp"] or 0)
        return None

    def content(self, path: str) -> bytes:
        """Return the lines of an object, unpacked but not parsed.

        Raises: UnreadableObjectError; OSError if the object store does not answer.
        """
        try:
            return gzip.decompress(self._packed(path))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UnreadableObjectError(f"{path}: {type(error).__name__}: {error}") from error

    def _packed(self, path: str) -> bytes:
        with self._files.open_input_stream(path, compression=None) as stream:
            found: bytes = stream.read()
        return found

    def put_at(self, path: str) -> datetime | None:
        """Return when an object was put, as the store reports it; None if it does not, or the object was packed later."""
        if packed_span(path) is not None:
            return None
        found: datetime | None = self._files.get_file_info(path).mtime
        return found

    def last_offset(self, topic: str, partition: int) -> int:
        """Return the first offset of a partition's last object, or 0: an estimate of its end."""
        newest = next(self.objects_newest_first(topic, partition), None)
        return 0 if newest is None else first_offset(newest)

    def kept_from(self, topic: str, partition: int) -> int:
        """Return the offset before which events were deleted by age (`bronze_keep_days`); 0 if none were."""
        try:
            with self._files.open_input_stream(state_path(topic, partition)) as stream:
                return int(orjson.loads(stream.readall())["kept_from"])
        except FileNotFoundError:
            return 0

    def size(self, topic: str) -> int:
        """Return the bytes that a topic's objects take, as stored."""
        selector = pa_fs.FileSelector(topic, allow_not_found=True, recursive=True)
        return sum(info.size or 0 for info in self._files.get_file_info(selector) if info.is_file)

    def documents(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of an object, parsed.

        Raises: UnreadableObjectError; OSError if the object store does not answer.
        """
        for _, document in self.proved_documents(path):
            yield document

    def proved_documents(self, path: str) -> Iterator[tuple[Proof | None, dict[str, Any]]]:
        """Yield the object's proof with each of its lines, parsed.

        Raises: UnreadableObjectError; OSError if the object store does not answer.
        """
        packed = self._packed(path)
        proof, span, offset = proof_of(packed), packed_span(path), NONE
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as text:
                for line in text:
                    document = orjson.loads(line)
                    offset = int(document["offset"])
                    yield proof, document
        except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError) as error:
            raise UnreadableObjectError(f"{path}: {type(error).__name__}: {error}") from error
        if span is not None and offset != span.last:
            raise UnreadableObjectError(f"{path}: its last line is offset {offset}")

    def events(
        self, topic: str, partition: int, start: int, explain: Explain, end: int | None = None
    ) -> Iterator[RawEvent]:
        """Yield the events of a partition from offset `start` on, each once, until the end of bronze.

        Args:
            explain: called for missing offsets that may have been records.
            end: the offset at which to end; `explain` is called for the offsets that are missing before it. None
                yields all events.
        Raises: UnreadableObjectError, and whatever `explain` raises.
        """
        expected = start
        for proof, document in self._documents_from(topic, partition, start):
            event = event_of(document)
            if event.offset < expected:
                continue
            upto = event.offset if end is None else min(event.offset, end)
            missing = unproven(proof, expected, upto - 1) if upto > expected else None
            if missing is not None:
                explain(partition, *missing)
            if end is not None and event.offset >= end:
                return
            expected = event.offset + 1
            yield event
        # The last object proves nothing about the offsets after it; the next one will.
        missing = unproven(None, expected, end - 1) if end is not None else None
        if missing is not None:
            explain(partition, *missing)

    def _documents_from(
        self, topic: str, partition: int, start: int
    ) -> Iterator[tuple[Proof | None, dict[str, Any]]]:
        """Yield the lines of objects that may hold `start` or later offsets, with their proofs.

        An object that is gone since it was listed has been packed: the packed one is read, also its earlier lines.
        """
        following, gone = start, ""
        while True:
            try:
                for path in self._objects_from(topic, partition, following):
                    for proof, document in self.proved_documents(path):
                        following = max(following, int(document["offset"]) + 1)
                        yield proof, document
                return
            except FileNotFoundError as error:
                if str(error) == gone:
                    raise
                gone = str(error)

    def _objects_from(self, topic: str, partition: int, start: int) -> Iterator[str]:
        """Yield the paths of objects that may hold `start` or later offsets."""
        waiting = ""
        for path in self._walk(topic, partition, start, holding=True):
            if waiting and first_offset(path) > start:
                yield waiting
            waiting = path
        if waiting:
            yield waiting

    def _walk(
        self, topic: str, partition: int, start: int, *, holding: bool = False
    ) -> Iterator[str]:
        """Yield objects in order: packed ones that end at `start` or later, the sink's that begin there or later.

        Args:
            holding: also yield the sink's objects that begin before `start`, and may hold it.
        """
        reached = start - 1
        hidden_to = NONE if holding else reached
        for block in self._blocks_from(topic, partition, start, holding=holding) or [""]:
            if block and (block_number(block) + 1) * BLOCK_OFFSETS <= reached:
                continue
            found = self._objects_in(block) if block else []
            # Packed objects are listed after the block: if the sink's objects are gone from it, these are there.
            for path in self._packed_beyond(topic, partition, reached):
                span = packed_span(path)
                assert span is not None
                reached = hidden_to = span.last
                yield path
            for path in not_packed(found, hidden_to):
                reached = max(reached, first_offset(path))
                yield path

    def _blocks_from(self, topic: str, partition: int, start: int, *, holding: bool) -> list[str]:
        blocks = self._blocks(topic, partition)
        early = sum(1 for block in blocks if block_number(block) <= start // BLOCK_OFFSETS)
        # The object that holds `start` may have begun in the previous block.
        return blocks[max(0, early - (2 if holding else 1)) :]

    def _packed_beyond(self, topic: str, partition: int, offset: int) -> Iterator[str]:
        """Yield the packed objects that end beyond an offset, in order; a folder is listed at a time."""
        folder = f"{partition_folder(topic, partition)}/{ARCHIVE}"
        for span in spans_beyond(self._below(folder), offset):
            yield from packed_beyond(self._below(span), offset)

    def _packed_to(self, spans: list[str]) -> int:
        """Return the last packed offset, of the last of these folders; NONE if there is none."""
        for span in reversed(spans_beyond(spans, NONE)):
            for path in reversed(packed_beyond(self._below(span), NONE)):
                found = packed_span(path)
                assert found is not None
                return found.last
        return NONE

    def _offset_after(self, path: str) -> int:
        """Return the offset from which a listing continues after an object, or before a section."""
        if path.endswith(_BEFORE):
            return section_offset(path.removesuffix(_BEFORE))
        if not path:
            return 0
        span = packed_span(path)
        return (first_offset(path) if span is None else span.last) + 1

    def _blocks(self, topic: str, partition: int) -> list[str]:
        """Return the folders of a partition's blocks, in the order of their offsets."""
        return [p for p in self._below(partition_folder(topic, partition)) if f"/{BLOCK}" in p]

    def _objects_in(self, block: str) -> list[str]:
        # The embedded object store lists an unfinished put by its name and a UUID.
        return [path for path in self._below(block) if path.endswith(OBJECT)]

    def _below(self, folder: str) -> list[str]:
        selector = pa_fs.FileSelector(folder, allow_not_found=True)
        return sorted(str(info.path) for info in self._files.get_file_info(selector))


def before_section(section: str) -> str:
    """Return a place in a partition, before a section, from which `Bronze.objects` continues."""
    return section + _BEFORE


def section_offset(section: str) -> int:
    """Return an offset at which, or behind which, the records of a section begin (`Bronze.sections`)."""
    if section.endswith(OBJECT):
        return first_offset(section)
    return block_number(section) * BLOCK_OFFSETS


def bytes_of(value: Any) -> bytes | None:
    """Return the bytes of a key, a value or a header in a line."""
    if value is None:
        return None
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def event_of(document: Mapping[str, Any]) -> RawEvent:
    """Return a line as the event that was read from Kafka."""
    return RawEvent(
        document["topic"],
        document["partition"],
        document["offset"],
        document["timestamp"] or 0,
        bytes_of(document["key"]),
        bytes_of(document["value"]),
        [(name, bytes_of(content) or b"") for name, content in document["headers"]],
    )

"""Bronze as it stands in the object store: topics, partitions, objects, lines, in order.

The layout is in connect/README.md.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
import pyarrow.fs as pa_fs

_OBJECT = ".jsonl.gz"
_PARTITION = "partition="
_BLOCK = "block="


class Line(NamedTuple):
    """One record in bronze: its object, its offset, and a digest of all that it holds."""

    path: str
    offset: int
    digest: bytes


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
        folder = f"{topic}/{_PARTITION}{partition}"
        for block in self._below(folder):
            if _BLOCK not in block or block < after.rsplit("/", 1)[0]:
                continue
            # The store shows a put that is under way by its name with a UUID behind it.
            yield from (p for p in self._below(block) if p.endswith(_OBJECT) and p > after)

    def lines(self, path: str) -> Iterator[Line]:
        """The records of an object in their order.

        Raises: UnreadableObjectError; OSError where the store does not answer.
        """
        with self._files.open_input_stream(path, compression=None) as stream:
            try:
                with gzip.GzipFile(fileobj=stream) as text:
                    for line in text:
                        record = orjson.loads(line)
                        yield Line(path, int(record["offset"]), _line_digest(record))
            except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError) as error:
                raise UnreadableObjectError(f"{path}: {type(error).__name__}: {error}") from error

    def _below(self, folder: str) -> list[str]:
        selector = pa_fs.FileSelector(folder, allow_not_found=True)
        return sorted(str(info.path) for info in self._files.get_file_info(selector))


def record_digest(
    timestamp: int | None,
    headers: Sequence[tuple[str, bytes | None]],
    key: bytes | None,
    value: bytes | None,
) -> bytes:
    """A digest of what a Kafka record holds; the same for the line that bronze has of it."""
    found = blake2b(digest_size=16)
    found.update(b"%d;" % (-1 if timestamp is None else timestamp))
    for part in (key, value):
        _add(found, part)
    for name, content in headers:
        _add(found, name.encode())
        _add(found, content)
    return found.digest()


def first_offset(path: str) -> int:
    """The offset that an object is named by."""
    return int(path.rsplit("/", 1)[1].split(".")[0])


def _line_digest(record: dict[str, Any]) -> bytes:
    headers = [(name, _bytes(content)) for name, content in record["headers"]]
    return record_digest(
        record["timestamp"], headers, _bytes(record["key"]), _bytes(record["value"])
    )


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def _add(found: Any, part: bytes | None) -> None:
    if part is None:
        found.update(b"n;")
    else:
        found.update(b"%d:" % len(part))
        found.update(part)

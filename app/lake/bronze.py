"""Bronze as `verify --bronze` reads it: each record by its offset and a digest of what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from spark_streaming import bronze
from spark_streaming.bronze import UnreadableObjectError, bytes_of, first_offset

__all__ = ["Bronze", "Line", "UnreadableObjectError", "first_offset", "record_digest"]


class Line(NamedTuple):
    """One record in bronze: its object, its offset, and a digest of all that it holds."""

    path: str
    offset: int
    digest: bytes


class Bronze(bronze.Bronze):
    """A bronze bucket, read record by record."""

    def lines(self, path: str) -> Iterator[Line]:
        """The records of an object in their order.

        Raises: UnreadableObjectError; OSError where the store does not answer.
        """
        for document in self.documents(path):
            yield Line(path, int(document["offset"]), _line_digest(document))


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


def _line_digest(record: dict[str, Any]) -> bytes:
    headers = [(name, bytes_of(content)) for name, content in record["headers"]]
    return record_digest(
        record["timestamp"], headers, bytes_of(record["key"]), bytes_of(record["value"])
    )


def _add(found: Any, part: bytes | None) -> None:
    if part is None:
        found.update(b"n;")
    else:
        found.update(b"%d:" % len(part))
        found.update(part)

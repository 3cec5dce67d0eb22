"""Reads bronze as offsets and digests of the records, for `verify --bronze`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from spark_streaming.reading import bronze
from spark_streaming.reading.bronze import UnreadableObjectError, bytes_of
from spark_streaming.reading.bronze_names import first_offset
from spark_streaming.reading.bronze_proof import Proof
from spark_streaming.reading.erased_events import is_erased

__all__ = ["Bronze", "Line", "UnreadableObjectError", "first_offset", "record_digest"]


ERASED = b"erased"


class Line(NamedTuple):
    """One record in bronze.

    Args:
        path: its object.
        digest: the digest of the record's content; ERASED for one that was erased.
        proof: which missing offsets the object shows to have had no record.
    """

    path: str
    offset: int
    digest: bytes
    proof: Proof | None = None


class Bronze(bronze.Bronze):
    """A bronze bucket that is read record by record."""

    def lines(self, path: str) -> Iterator[Line]:
        """Yield the records of an object in their order.

        Raises: UnreadableObjectError; OSError if the object store does not answer.
        """
        for proof, document in self.proved_documents(path):
            yield Line(path, int(document["offset"]), _line_digest(document), proof)


def record_digest(
    timestamp: int | None,
    headers: Sequence[tuple[str, bytes | None]],
    key: bytes | None,
    value: bytes | None,
) -> bytes:
    """Return a digest of a Kafka record's content; its line in bronze has the same digest."""
    content_digest = blake2b(digest_size=16)
    content_digest.update(b"%d;" % (-1 if timestamp is None else timestamp))
    for part in (key, value):
        _add(content_digest, part)
    for name, content in headers:
        _add(content_digest, name.encode())
        _add(content_digest, content)
    return content_digest.digest()


def _line_digest(record: dict[str, Any]) -> bytes:
    if is_erased(record["headers"]):
        return ERASED
    headers = [(name, bytes_of(content)) for name, content in record["headers"]]
    return record_digest(
        record["timestamp"], headers, bytes_of(record["key"]), bytes_of(record["value"])
    )


def _add(content_digest: Any, part: bytes | None) -> None:
    if part is None:
        content_digest.update(b"n;")
    else:
        content_digest.update(b"%d:" % len(part))
        content_digest.update(part)

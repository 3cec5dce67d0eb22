"""Decides which objects of bronze go together, and makes the packed one of their lines. Pure."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from spark_streaming.reading.bronze_names import Span
from spark_streaming.reading.bronze_proof import Proof, compressed, header_bytes, proof_of
from spark_streaming.reading.erased_events import is_erased


class DamagedError(Exception):
    """An object is not what its name or its place says; the text names it."""


class Body(NamedTuple):
    """An object as stored: path, bytes, `x-amz-meta-` headers, when it was put (seconds since 1970)."""

    path: str
    packed: bytes
    metadata: Mapping[str, str] = {}
    put_at: float = 0.0


@dataclass(frozen=True)
class Limits:
    """When objects are packed.

    Args:
        lines_bytes: a packed object has about as many bytes of lines: erase, trace and counts hold one in memory.
        objects: as many objects at most.
        old_s, old_objects: objects that are not enough for that are packed when the first one is as old, and they are
            as many.
        young_s: objects younger than this are left alone.
        kept_s: how long a packed object's small ones stay: longer than any reader that has listed them.
    """

    lines_bytes: int = 16 << 20
    objects: int = 2_000
    old_s: float = 7 * 86_400.0
    old_objects: int = 100
    young_s: float = 3_600.0
    kept_s: float = 86_400.0


@dataclass
class Run:
    """Objects that follow each other, and may become one.

    `records` counts lines. `is_closed`: the object behind them cannot join, or a limit is reached.
    """

    members: list[Body] = field(default_factory=list)
    lines_bytes: int = 0
    records: int = 0
    last: int = -1
    is_closed: bool = False

    @property
    def span(self) -> Span:
        [(first, _), *_] = offsets_of(self.members[0])
        return Span(first, self.last)


def gather(bodies: Iterable[Body], limits: Limits) -> Run:
    """Return the objects from the first one on that become one packed object, or would if more came.

    Raises: DamagedError.
    """
    run = Run()
    for body in bodies:
        offsets = offsets_of(body)
        size = sum(len(line) for _, line in offsets)
        if run.members and not (
            _follows(run, body) and run.lines_bytes + size <= limits.lines_bytes
        ):
            run.is_closed = True
            return run
        if offsets[0][0] <= run.last:
            raise DamagedError(f"{body.path}: offset {offsets[0][0]} is in the object before, too")
        run.members.append(body)
        run.lines_bytes += size
        run.records += len(offsets)
        run.last = offsets[-1][0]
        run.is_closed = len(run.members) >= limits.objects or run.lines_bytes >= limits.lines_bytes
        if run.is_closed:
            return run
    return run


def is_due(run: Run, limits: Limits, now: float) -> bool:
    """Whether a run becomes a packed object now."""
    if not run.members:
        return False
    is_old = now - run.members[0].put_at > limits.old_s
    return run.is_closed or (is_old and len(run.members) >= limits.old_objects)


def _follows(run: Run, body: Body) -> bool:
    """Whether one proof can speak for the run and this object."""
    before, proof = proof_of(run.members[0].packed), proof_of(body.packed)
    if before is None or proof is None:
        return before is proof
    return _reads_on(proof, run.last)


def _reads_on(proof: Proof, last: int) -> bool:
    return proof.lost is None and proof.read_from <= last + 1


def packed_from(bodies: Iterable[Body]) -> bytes:
    """Return the object that holds the lines of these, with the proof of the first one."""
    members = list(bodies)
    header = members[0].packed[: header_bytes(members[0].packed)]
    return compressed(b"".join(unpacked(body) for body in members), header)


def metadata_of(run_first: Body, span: Span, records: int) -> dict[str, str]:
    """Return the headers of a packed object."""
    topic_id = run_first.metadata.get("x-amz-meta-topic-id", "")
    said = {"format": "1", "first-offset": span.first, "last-offset": span.last, "records": records}
    named = {f"x-amz-meta-{name}": str(value) for name, value in said.items()}
    if topic_id:
        named["x-amz-meta-topic-id"] = topic_id
    return {"content-type": "application/gzip", **named}


def offsets_of(body: Body) -> list[tuple[int, bytes]]:
    """Return an object's lines with their offsets. Raises: DamagedError unless these ascend from its name on."""
    found = list(_lines(body))
    offsets = [offset for offset, _ in found]
    if not offsets or offsets != sorted(set(offsets)):
        raise DamagedError(f"{body.path}: its lines are not in the order of their offsets")
    return found


def is_within(small: Body, kept: Mapping[int, bytes]) -> bool:
    """Whether each event of an object is in a packed one, byte for byte; an erased one has only its place in either.

    Args:
        kept: offset → line of the packed one.
    Raises: DamagedError if the object cannot be read.
    """
    for offset, line in _lines(small):
        other = kept.get(offset)
        if other is None or (other != line and not (_is_erased(line) or _is_erased(other))):
            return False
    return True


def _lines(body: Body) -> Iterator[tuple[int, bytes]]:
    for line in unpacked(body).splitlines(keepends=True):
        try:
            yield int(orjson.loads(line)["offset"]), line
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{body.path}: {type(error).__name__}: {error}") from error


def _is_erased(line: bytes) -> bool:
    document: Any = orjson.loads(line)
    return is_erased(document["headers"])


def unpacked(body: Body) -> bytes:
    """Return an object's lines. Raises: DamagedError."""
    try:
        return gzip.decompress(body.packed)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedError(f"{body.path}: {type(error).__name__}: {error}") from error

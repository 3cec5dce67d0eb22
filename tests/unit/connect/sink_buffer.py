"""The bronze sink's memory of one partition: the steps of `PartitionBuffer` and `Recovery`, in Python.

Each function has the name of the Java method that it follows (`connect/bronze-sink/`).
"""

from __future__ import annotations

from typing import NamedTuple

from spark_streaming.reading.bronze_names import BLOCK_OFFSETS, OBJECT
from spark_streaming.reading.bronze_proof import Proof


def key(prefix: str, first: int) -> str:
    """`SealedObject.key`."""
    return f"{prefix}block={first // BLOCK_OFFSETS:016d}/{first:020d}{OBJECT}"


class Sealed(NamedTuple):
    """An object, put or not yet: its name is `records[0]`; `seal` tells whose it is."""

    records: tuple[int, ...]
    proof: Proof | None
    seal: int

    @property
    def first(self) -> int:
        return self.records[0]

    @property
    def last(self) -> int:
        return self.records[-1]


class Mark(NamedTuple):
    """The group's committed offset with its text: `Mark.java`; bucket and topic are always ours."""

    offset: int
    kept: int
    lost: tuple[int, int] | None = None

    def text(self, bucket: str, topic_id: str) -> str:
        """`Mark.toString`."""
        lost = f"/lost={self.lost[0]}-{self.lost[1]}" if self.lost else ""
        return f"{bucket}/{topic_id}" + (f"/{self.kept}{lost}" if self.kept >= 0 else "")


class Buffer(NamedTuple):
    """`PartitionBuffer`: `records` gather; `sealed` is put before anything else."""

    next: int
    kept: int
    read_from: int
    stored: int
    records: tuple[int, ...] = ()
    sealed: Sealed | None = None
    jump_from: int = -1
    lost: tuple[int, int] | None = None
    unproven: bool = False

    def take(self, offset: int) -> Buffer:
        jumped = self._jump_to(offset)
        return jumped._replace(records=(*self.records, offset), next=offset + 1)

    def advance(self, position: int) -> Buffer:
        return self._jump_to(position)._replace(next=max(self.next, position))

    def _jump_to(self, offset: int) -> Buffer:
        jumps = offset > self.next and self.jump_from < 0
        return self._replace(jump_from=self.next) if jumps else self

    def jumps_verified(self) -> Buffer:
        return self._replace(jump_from=-1)

    def jumps_unknown(self) -> Buffer:
        return self._replace(jump_from=-1, unproven=True)

    def dropped(self, first: int, last: int) -> Buffer:
        """`PartitionBuffer.lost`."""
        known = self.lost or (first, last)
        return self._replace(jump_from=-1, lost=(min(known[0], first), max(known[1], last)))

    def has_passed_markers(self) -> bool:
        quiet = not self.records and self.sealed is None
        return quiet and self.next != self.stored and self.jump_from < 0

    def quiet(self) -> Buffer:
        """`passedMarkers`, then `beginBatch`: the consumer was sent to the place that it has."""
        moved = max(self.stored, self.next)
        return self._replace(stored=moved) if self.has_passed_markers() else self

    def seal(self, seal: int) -> Buffer:
        proof = None if self.unproven else Proof(self.read_from, self.lost)
        sealed = Sealed(self.records, proof, seal)
        return self._replace(
            sealed=sealed, read_from=sealed.last + 1, records=(), lost=None, unproven=False
        )

    def settled(self) -> Buffer:
        assert self.sealed is not None
        stored = self.sealed.last + 1
        return self._replace(stored=stored, kept=stored, sealed=None)

    def mark(self, *, tells_of_sealed: bool = True) -> Mark:
        if self.sealed is None or not tells_of_sealed:
            return Mark(self.stored, -1 if self.unproven else self.kept, self.lost)
        proof = self.sealed.proof
        return Mark(self.stored, self.kept, proof.lost) if proof else Mark(self.stored, -1)


class EventsLost(Exception):
    """`PartitionTrouble`: Kafka has dropped events that bronze lacks, and `on.gap` is `fail`."""


def begin(last: int, start: int, committed: Mark | None, *, skip_gaps: bool) -> Buffer:
    """`Recovery.buffer`. Args: bronze's last offset (-1: none), Kafka's first, what is committed."""
    kept = following = last + 1
    mark = None
    if start > kept:
        mark = committed
        following = kept if mark is None else max(kept, mark.offset)
    gap = start > following
    if gap and not skip_gaps:
        raise EventsLost
    at = max(following, start)
    buffer = Buffer(next=at, kept=kept, read_from=kept, stored=at)
    if mark is not None and mark.kept != kept:
        buffer = buffer.jumps_unknown()
    if mark is not None and mark.lost is not None:
        buffer = buffer.dropped(*mark.lost)
    if gap:
        buffer = buffer.dropped(following, start - 1)
    return buffer


def verify_jumps(buffer: Buffer, start: int, *, skip_gaps: bool) -> Buffer:
    """`Recovery.verifyJumps`."""
    if buffer.jump_from < 0:
        return buffer
    if start <= buffer.jump_from:
        return buffer.jumps_verified()
    if not skip_gaps:
        raise EventsLost
    return buffer.dropped(buffer.jump_from, start - 1)

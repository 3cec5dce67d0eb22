"""An object's proof about the offsets that it lacks, in the header of its gzip stream (RFC 1952)."""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

# Before an object without a proof (of an older version) one offset may have no record: the marker
# that ends a transaction.
MARKER_OFFSETS_MAX = 1
_GZIP = b"\x1f\x8b"
_GZIP_FIXED_BYTES = 10
_EXTRA, _NAME, _COMMENT, _CHECKSUM = 4, 8, 16, 2
_LEVEL = 6
_PROOF = re.compile(rb"headwater read-from=(\d+)(?: lost=(\d+)-(\d+))?")


class Proof(NamedTuple):
    """An object's statement about the offsets that it lacks (`Proof.java`).

    Args:
        read_from: from this offset to the object's last record the sink read without a gap, so an
            offset that is missing there had no record.
        lost: first and last offset that Kafka had dropped before the sink read them.
    """

    read_from: int
    lost: tuple[int, int] | None

    def unproven(self, first: int, last: int) -> tuple[int, int] | None:
        """Return the first and last of the missing offsets `first` to `last` that may be records.

        Returns: None if all of them are proved to be markers or aborted records.
        """
        spans = [(first, min(last, self.read_from - 1))]
        if self.lost is not None:
            spans.append((max(first, self.lost[0]), min(last, self.lost[1])))
        open_spans = [span for span in spans if span[0] <= span[1]]
        return (open_spans[0][0], max(last for _, last in open_spans)) if open_spans else None


def unproven(proof: Proof | None, first: int, last: int) -> tuple[int, int] | None:
    """Return which of the offsets `first` to `last`, missing before a record, may be records.

    Args:
        proof: the proof of the record's object; None if it has none: then one marker is accepted.
    """
    if proof is not None:
        return proof.unproven(first, last)
    return (first, last) if last - first + 1 > MARKER_OFFSETS_MAX else None


def proof_of(packed: bytes) -> Proof | None:
    """Return the proof in the header of an object's gzip stream; None in one of an older version."""
    flags = packed[3] if packed.startswith(_GZIP) and len(packed) > _GZIP_FIXED_BYTES else 0
    if not flags & _COMMENT:
        return None
    at = _GZIP_FIXED_BYTES
    if flags & _EXTRA:
        at += 2 + int.from_bytes(packed[at : at + 2], "little")
    if flags & _NAME:
        at = packed.find(b"\0", at) + 1
    found = _PROOF.fullmatch(packed[at : packed.find(b"\0", at)])
    if found is None:
        return None
    lost = None if found[2] is None else (int(found[2]), int(found[3]))
    return Proof(int(found[1]), lost)


def compressed(body: bytes, header: bytes) -> bytes:
    """Return an object of these lines; `header` is that of a gzip stream, with its proof."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    ends = struct.pack("<II", zlib.crc32(body), len(body) & 0xFFFFFFFF)
    return header + deflate.compress(body) + deflate.flush() + ends


def header_bytes(packed: bytes) -> int:
    """Return the length of a gzip stream's header (RFC 1952), with its comment."""
    flags, at = packed[3], _GZIP_FIXED_BYTES
    if flags & _EXTRA:
        at += 2 + int.from_bytes(packed[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            at = packed.index(b"\0", at) + 1
    return at + 2 if flags & _CHECKSUM else at

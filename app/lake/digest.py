"""Rows as digests: what is summed up without order, in memory that does not grow with the rows.

A fingerprint is a sum, so it is the same in whatever order the rows come: neither side has to be
sorted, and no collation decides what the comparison sees. Two values exchanged between two rows
change both rows' digests, and with them the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

import orjson

DIGEST_BYTES = 16
BUCKETS_MIN = 256
BUCKETS_MAX = 16_384
BUCKET_ROWS = 4_096  # aimed at: so many rows are looked at again for one that differs

Row = tuple[str | None, ...]


def packed(row: Sequence[str | None]) -> bytes:
    """Bytes that are equal for equal rows only; NULL differs from any text."""
    try:
        return orjson.dumps(row)
    except TypeError:
        # Half of a surrogate pair: no UTF-8, but a source in SQL_ASCII may hold it.
        return repr(tuple(row)).encode("ascii", "backslashreplace")


def digest(row: Sequence[str | None]) -> bytes:
    """A row's digest, DIGEST_BYTES long."""
    return blake2b(packed(row), digest_size=DIGEST_BYTES).digest()


def bucket_count(rows: int) -> int:
    """How many buckets are right for about `rows` rows; a power of two."""
    wanted = max(BUCKETS_MIN, min(BUCKETS_MAX, rows // BUCKET_ROWS))
    return 1 << (wanted - 1).bit_length()


class Keys:
    """What tells the rows of a table apart: its key's columns, or the whole row without a key.

    Args:
        positions: where the key's columns stand in a row; empty for a table without a key.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        self._positions = tuple(positions)
        self._only = self._positions[0] if len(self._positions) == 1 else None

    def bucket(self, row: Row, buckets: int) -> int:
        """Which of `buckets` the row belongs to; rows of one key share it."""
        return crc32(self._bytes(row)) % buckets

    def digest(self, row: Row) -> bytes:
        """The digest of the row's key."""
        return blake2b(self._bytes(row), digest_size=DIGEST_BYTES).digest()

    def _bytes(self, row: Row) -> bytes:
        if self._only is not None:
            return (row[self._only] or "").encode("utf-8", "surrogatepass")
        if not self._positions:
            return packed(row)
        return packed(tuple(row[i] for i in self._positions))


class Fingerprint:
    """Rows summed up by bucket: how many there are, and the sum of their digests."""

    def __init__(self, keys: Keys, buckets: int) -> None:
        self._keys = keys
        self.rows = 0
        self.counts = [0] * buckets
        self.sums = [0] * buckets

    def add(self, row: Row) -> None:
        """Take one more row."""
        bucket = self._keys.bucket(row, len(self.counts))
        self.rows += 1
        self.counts[bucket] += 1
        self.sums[bucket] += int.from_bytes(digest(row), "little")

    def differing(self, other: Fingerprint) -> list[int]:
        """The buckets in which the two do not hold the same rows."""
        return [
            bucket
            for bucket, count in enumerate(self.counts)
            if count != other.counts[bucket] or self.sums[bucket] != other.sums[bucket]
        ]

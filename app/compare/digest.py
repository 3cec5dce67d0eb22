"""Turns rows into digests and sums them up, in memory that does not grow with the rows.

A fingerprint is a sum, so the order of rows does not matter: neither side has to be sorted, and
collations have no influence. Two values exchanged between two rows change both rows' digests,
and with them the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

import orjson

DIGEST_BYTES = 16
BUCKETS_MIN = 256
BUCKETS_MAX = 16_384
BUCKET_ROWS = 4_096  # the aim: the number of rows to read again for one differing row

Row = tuple[str | None, ...]


def packed(row: Sequence[str | None]) -> bytes:
    """Return bytes that are equal only for equal rows; NULL differs from any text."""
    try:
        return orjson.dumps(row)
    except TypeError:
        # Half of a surrogate pair is not UTF-8, but a source in SQL_ASCII may hold it.
        return repr(tuple(row)).encode("ascii", "backslashreplace")


def digest(row: Sequence[str | None]) -> bytes:
    """Return a row's digest, DIGEST_BYTES long."""
    return blake2b(packed(row), digest_size=DIGEST_BYTES).digest()


def bucket_count(rows: int) -> int:
    """Return how many buckets suit about `rows` rows; a power of two."""
    wanted = max(BUCKETS_MIN, min(BUCKETS_MAX, rows // BUCKET_ROWS))
    return 1 << (wanted - 1).bit_length()


class Keys:
    """Identifies the rows of a table: by the key's columns, or by the whole row without a key.

    Args:
        positions: the positions of the key's columns in a row; empty for a keyless table.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        self._positions = tuple(positions)
        self._only = self._positions[0] if len(self._positions) == 1 else None

    def bucket(self, row: Row, buckets: int) -> int:
        """Return the row's bucket, 0 to `buckets` - 1; rows of one key share it."""
        return crc32(self._bytes(row)) % buckets

    def digest(self, row: Row) -> bytes:
        """Return the digest of the row's key."""
        return blake2b(self._bytes(row), digest_size=DIGEST_BYTES).digest()

    def _bytes(self, row: Row) -> bytes:
        if self._only is not None:
            return (row[self._only] or "").encode("utf-8", "surrogatepass")
        if not self._positions:
            return packed(row)
        return packed(tuple(row[i] for i in self._positions))


class Fingerprint:
    """Sums up rows by bucket: their number, and the sum of their digests."""

    def __init__(self, keys: Keys, buckets: int) -> None:
        self._keys = keys
        self.rows = 0
        self.counts = [0] * buckets
        self.sums = [0] * buckets

    def add(self, row: Row) -> None:
        """Add a row."""
        bucket = self._keys.bucket(row, len(self.counts))
        self.rows += 1
        self.counts[bucket] += 1
        self.sums[bucket] += int.from_bytes(digest(row), "little")

    def differing(self, other: Fingerprint) -> list[int]:
        """Return the buckets in which the two do not have the same rows."""
        return [
            bucket
            for bucket, count in enumerate(self.counts)
            if count != other.counts[bucket] or self.sums[bucket] != other.sums[bucket]
        ]

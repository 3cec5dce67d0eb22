"""A log sequence number: a position in the source's log."""

from __future__ import annotations

from typing import NewType

# In bytes from the log's beginning, as Debezium gives it. Names say its role, e.g. `commit_lsn`.
Lsn = NewType("Lsn", int)
LOG_START = Lsn(0)  # before everything that the log has


def lsn_text(lsn: Lsn) -> str:
    """Return a log position as Postgres prints it, e.g. `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> Lsn:
    """Return the position that Postgres printed as `text`. Raises: ValueError for other text."""
    high, _, low = text.partition("/")
    return Lsn((int(high, 16) << 32) + int(low, 16))

"""A lock in the source: one process at a time stops, resumes or recovers a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.source.database import Connection
from app.source.source_tables import Names

_KEY = "hashtextextended('headwater recover ' || %s, 0)"


@contextmanager
def stream_lock(connection: Connection, names: Names) -> Iterator[bool]:
    """Try to take the stream's lock for the block; yield whether that succeeded at once.

    A process that is killed loses the lock with its session.
    """
    row = connection.execute(f"SELECT pg_try_advisory_lock({_KEY})", [names.slot]).fetchone()
    mine = bool(row and row[0])
    try:
        yield mine
    finally:
        if mine and not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock({_KEY})", [names.slot])

"""Reads the connector's heartbeat in the source; it beats only while the connector streams."""

from __future__ import annotations

from psycopg import sql

from app.source.database import Connection
from app.source.source_tables import Names


def source_time(connection: Connection) -> str | None:
    """Return the time now, by the source's clock."""
    row = connection.execute("SELECT clock_timestamp()::text").fetchone()
    return str(row[0]) if row else None


def beaten_since(connection: Connection, names: Names, since: str | None) -> bool:
    """Whether the heartbeat has beaten since a time of the source's clock."""
    row = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE beaten_at > %s::timestamptz)").format(
            names.heartbeat_table
        ),
        [since],
    ).fetchone()
    return bool(row and row[0])

"""The source: WAL position, replication slot, and the session that commits probes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import psycopg
from psycopg import sql

from app.metrics.board import Board
from spark_streaming.storage.connections import TCP_LIMITS

GROWTH_WINDOW_S = 600.0
_LIMITS = "-c statement_timeout=5s -c lock_timeout=2s -c timezone=UTC -c search_path=pg_catalog"
_POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
# NULL for -1 (no limit); the setting's unit is megabytes.
_SLOT = """
SELECT active::int, coalesce(wal_status = 'lost', false)::int,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
       (SELECT nullif(setting::bigint, -1) * 1048576 FROM pg_settings
        WHERE name = 'max_slot_wal_keep_size')
FROM pg_replication_slots WHERE slot_name = %s
"""
# Do not set `beaten_at`: only the connector's own heartbeat may, because the capture guard reads
# it as a sign that the connector streams.
_PROBE = sql.SQL("UPDATE {} SET beat = beat + 1 WHERE id = 1 RETURNING beat")
OWN_SCHEMA = "headwater"

Connection = psycopg.Connection[tuple[object, ...]]


class SourceSession:
    """One session with the source as the capture role, opened at its first use.

    `heartbeat` is this stack's table in the schema `headwater`.
    """

    def __init__(self, dsn: str, heartbeat: str = "heartbeat") -> None:
        self._dsn = dsn
        self._probe = _PROBE.format(sql.Identifier(OWN_SCHEMA, heartbeat))
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """Return the session. Raises: psycopg.Error, without the DSN's password."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                **{**TCP_LIMITS, "connect_timeout": 5},
                application_name="headwater metrics",
                options=_LIMITS,
            )
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def send_probe(self) -> int | None:
        """Commit a probe. Returns: its beat; None before the connector's first heartbeat."""
        row = self.open().execute(self._probe).fetchone()
        return None if row is None else int(str(row[0]))


class SourceCollector:
    """WAL and slot figures."""

    name = "source"
    period_s = 5.0
    share = 0.0015

    def __init__(
        self,
        session: SourceSession,
        slot: str,
        board: Board,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._slot = slot
        self._board = board
        self._clock = clock
        self._retained: deque[tuple[float, int]] = deque()

    def collect(self) -> None:
        connection = self._session.open()
        position = connection.execute(_POSITION).fetchone()
        row = connection.execute(_SLOT, [self._slot]).fetchone()
        assert position is not None
        # Set both or neither: their difference shows how far Kafka has all events.
        self._board.set("headwater_source_wal_position_bytes", float(str(position[0])))
        self._board.set("headwater_slot_present", 0 if row is None else 1)
        values = [None] * 5 if row is None else [None if v is None else int(str(v)) for v in row]
        active, lost, retained, unconfirmed, limit = values
        self._board.set("headwater_slot_active", active or 0)
        self._board.set("headwater_slot_lost", lost or 0)
        self._board.set("headwater_slot_retained_bytes", retained)
        self._board.set("headwater_slot_unconfirmed_bytes", unconfirmed)
        self._board.set("headwater_slot_limit_bytes", limit)
        left = None
        if limit is not None and retained is not None:
            left = self._seconds_until(limit, retained)
        self._board.set("headwater_slot_seconds_until_limit", left)

    def _seconds_until(self, limit: int, retained: int) -> float:
        now = self._clock()
        self._retained.append((now, retained))
        while self._retained[0][0] < now - GROWTH_WINDOW_S:
            self._retained.popleft()
        began, then = self._retained[0]
        grown = retained - then
        if grown <= 0 or now <= began:
            return float("inf")
        return max(0.0, (limit - retained) / (grown / (now - began)))

    def reset(self) -> None:
        self._session.close()

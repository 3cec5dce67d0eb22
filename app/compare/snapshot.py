"""Opens a repeatable-read snapshot of the source and knows which transactions it sees.

An event in Kafka names its transaction (`source.txId`), and Postgres says exactly which
transactions a snapshot sees. The source's rows at this instant can therefore be rebuilt from events
without guessing from times or log positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from app.errors import HeadwaterError
from spark_streaming.contract.lsn import Lsn
from spark_streaming.storage.connections import TCP_LIMITS

CONNECT_TIMEOUT_S = 10
_EPOCH = 1 << 32


@dataclass(frozen=True)
class Visibility:
    """The transactions that a snapshot sees, as `pg_current_snapshot()` gives them.

    All are 64-bit transaction ids. The snapshot sees the transactions below `xmin`, none from
    `xmax` on, and of those between them all except `running`.
    """

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visibility:
        """Read `xmin:xmax:xip,xip`, as Postgres prints a pg_snapshot."""
        low, high, running = text.split(":")
        return cls(int(low), int(high), frozenset(int(x) for x in running.split(",") if x))

    def sees(self, xid: int) -> bool:
        """Check whether the snapshot sees transaction `xid` (32-bit or full id)."""
        full = self.xmax - self.xmax % _EPOCH + xid % _EPOCH
        # Replication gives 32 bits only; the full id is the one within 2^31 of the snapshot.
        if full - self.xmax > _EPOCH // 2:
            full -= _EPOCH
        elif self.xmax - full > _EPOCH // 2:
            full += _EPOCH
        if full < self.xmin:
            return True
        return full < self.xmax and full not in self.running


@dataclass
class SourceSnapshot:
    """An open repeatable-read transaction, with its position in the log."""

    connection: psycopg.Connection[tuple[object, ...]]
    visibility: Visibility
    snapshot_lsn: Lsn


@contextmanager
def open_snapshot(dsn: str) -> Iterator[SourceSnapshot]:
    """Open a snapshot of the source for reading.

    Raises: HeadwaterError if the source cannot be reached.
    """
    with _connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # The session is idle while silver is read; a limit of the role or database would end it
        # then.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute("SET LOCAL statement_timeout = 0")
        row = connection.execute(
            "SELECT txid_current_snapshot()::text, pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        ).fetchone()
        assert row is not None
        visibility = Visibility.parse(str(row[0]))
        yield SourceSnapshot(connection, visibility, Lsn(int(str(row[1]))))
        connection.rollback()


def write_marker(dsn: str, heartbeat: str) -> int:
    """Update the row of the stack's heartbeat table; return the transaction's id (32 bits).

    The connector sends transactions in the order of their commits, so when this one is in Kafka, everything that was
    committed before it is there, too.
    """
    with _connect(dsn) as connection:
        row = connection.execute(
            sql.SQL(
                "INSERT INTO {beats} AS beats (id, beat, beaten_at) "
                "VALUES (1, 1, clock_timestamp()) ON CONFLICT (id) DO UPDATE "
                "SET beat = beats.beat + 1, beaten_at = clock_timestamp() "
                "RETURNING txid_current()::text"
            ).format(beats=sql.Identifier("headwater", heartbeat))
        ).fetchone()
        assert row is not None
        return int(str(row[0])) % _EPOCH


def _connect(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    try:
        return psycopg.connect(
            dsn,
            **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
            application_name="headwater-verify",
        )
    except psycopg.OperationalError as error:
        raise HeadwaterError(
            "the source database cannot be reached",
            detail=str(error).strip().splitlines()[-1],
            hint="is it up? `./headwater status postgres`",
        ) from error

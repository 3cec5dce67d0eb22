"""Takes tables that appeared after the start into the capture, with the rows they already have.

A table with a key:
1. in one transaction, with writers held off for that moment: grant, publish, note as pending.
   Whatever is written later is streamed;
2. the connector task is restarted once, for Debezium knows only the tables that it saw at its
   start or in the stream;
3. an incremental snapshot is signalled, and signalled again until it succeeds. It runs beside the
   stream and survives restarts.

A table without a key (kept as a bag of rows) has nothing by which a snapshot and the stream could
be told apart. So writers are held off from before its blocking snapshot until it is published.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import psycopg
from psycopg import sql

from app.source.database import Connection
from app.source.notices import Notices
from app.source.record import DONE, PENDING, ask_for_snapshot, record
from app.source.tables import Names, SourceTable

# Writers of a table wait while its lock is waited for, and while it is held.
LOCK_WAIT_MS = 2_000
BAG_SNAPSHOT_S_MAX = 60.0
_POLL_MS = 100
Tell: TypeAlias = Callable[[str, str], None]  # what about, and the words: said when they change


def publish_keyed(
    connection: Connection, names: Names, tables: Sequence[SourceTable], role: str, tell: Tell
) -> bool:
    """Step 1 for tables with a key; returns whether any of them has rows to be snapshotted.

    A table that is busy with a long transaction is left for the next pass.
    """
    pending = False
    for table in tables:
        try:
            _grant(connection, table, role)
            with _held(connection, table):
                has_rows = _has_rows(connection, table)
                connection.execute(table.publish(names.publication))
                record(connection, names, [table], PENDING if has_rows else DONE)
        except psycopg.Error as error:
            tell(str(table), f"{table}: not taken in yet: {str(error).strip()}")
        else:
            pending = pending or has_rows
            _tell(f"{table}: taken into the capture" + (", snapshot to come" if has_rows else ""))
    return pending


def publish_bag(
    connection: Connection,
    signalling: Connection,
    names: Names,
    table: SourceTable,
    role: str,
    notices: Notices,
    tell: Tell,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Take in a table without a key; returns whether it is done.

    Args:
        connection: as the owner; holds the lock.
        signalling: another session, which commits at once.
    """
    try:
        _grant(connection, table, role)
        with _held(connection, table):
            if _has_rows(connection, table):
                notices.take(str(table))  # of an earlier try
                mark = f"bag-{table.oid}-{time.time_ns()}"
                ask_for_snapshot(signalling, names, [table], kind="blocking", mark=mark)
                _await_scan(table, notices, clock() + BAG_SNAPSHOT_S_MAX, clock)
            connection.execute(table.publish(names.publication))
            record(connection, names, [table], DONE)
    except (psycopg.Error, TimeoutError) as error:
        tell(str(table), f"{table}: not taken in yet: {str(error).strip()}")
        return False
    _tell(f"{table}: taken into the capture, as a bag of rows")
    return True


def signal_snapshots(
    connection: Connection, names: Names, tables: Sequence[SourceTable], skipped: Container[int]
) -> None:
    """Step 3: ask for the rows that the tables had before they were published.

    Args:
        skipped: object identifiers of tables whose incremental snapshot did not succeed.
    """
    beside = [t for t in tables if can_be_incremental(t) and t.oid not in skipped]
    for kind, chosen in (
        ("incremental", beside),
        ("blocking", [table for table in tables if table not in beside]),
    ):
        if chosen:
            mark = f"rows-{kind}-{time.time_ns()}"
            ask_for_snapshot(connection, names, chosen, kind=kind, mark=mark)
            _tell(f"{kind} snapshot signalled: {', '.join(map(str, chosen))}")


def describe_anew(connection: Connection, names: Names) -> None:
    """Have the server describe each published table in the stream before its next row.

    A blocking snapshot has read the columns of all tables ahead of the log; to set the publication
    to what it is changes nothing else.
    """
    row = connection.execute(
        "SELECT pubviaroot FROM pg_publication WHERE pubname = %s", [names.publication]
    ).fetchone()
    if row is not None:
        connection.execute(
            sql.SQL("ALTER PUBLICATION {} SET (publish_via_partition_root = {})").format(
                sql.Identifier(names.publication), sql.Literal(bool(row[0]))
            )
        )


def can_be_incremental(table: SourceTable) -> bool:
    """Whether its earlier rows can be read beside the stream."""
    # Debezium cannot parse other names there, and skips them in silence; and it reads all columns,
    # but knows only those of the stream, where generated ones are absent.
    return table.plain and not table.generated


def _grant(connection: Connection, table: SourceTable, role: str) -> None:
    if not table.readable:
        for statement in table.grant(role):
            connection.execute(statement)


@contextmanager
def _held(connection: Connection, table: SourceTable) -> Iterator[None]:
    """A transaction that writers of the table wait for, and that waited for them."""
    with connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        lock = sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table.identifier)
        connection.execute(lock)
        yield


def _has_rows(connection: Connection, table: SourceTable) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table.identifier)
    row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _await_scan(
    table: SourceTable, notices: Notices, limit: float, clock: Callable[[], float]
) -> None:
    while clock() < limit:
        notices.read(_POLL_MS)
        scan = notices.take(str(table))
        if scan is not None and scan.succeeded:
            return
        if scan is not None:
            raise TimeoutError(f"its snapshot ended with {scan.status}")
    raise TimeoutError(f"its snapshot did not end within {BAG_SNAPSHOT_S_MAX:.0f} s")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

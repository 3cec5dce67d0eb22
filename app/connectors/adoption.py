"""Adds tables that appear after the start to the capture, with the rows they already have.

A table with a key:
1. In one transaction, which blocks writers for a moment: grant, publish, record as pending.
   Everything that is written later is streamed.
2. Restart the connector's task once: Debezium knows only the tables that it saw at its start or in
   the stream.
3. Signal an incremental snapshot, again and again until it succeeds. It runs beside the stream and
   survives restarts.

In a table without a key nothing distinguishes a row of the snapshot from a row of the stream. Its
writers are therefore blocked from before its blocking snapshot until it is published.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import psycopg
from psycopg import sql

from app.connectors.capture_record import DONE, PENDING, ask_for_snapshot, record
from app.connectors.notices import Notices
from app.source.database import Connection
from app.source.source_tables import Names, SourceTable

# Writers of a table wait behind this lock while it is requested, and while it is held.
LOCK_WAIT_MS = 2_000
KEYLESS_SNAPSHOT_S_MAX = 60.0
_POLL_MS = 100
Report: TypeAlias = Callable[[str, str], None]  # topic and message; printed when it changes


def publish_keyed(
    connection: Connection, names: Names, tables: Sequence[SourceTable], role: str, report: Report
) -> bool:
    """Do step 1 for tables with a key; return whether any of them has rows to snapshot.

    A table that is busy with a long transaction waits for the next pass.
    """
    pending = False
    for table in tables:
        try:
            grant(connection, table, role)
            with writers_held_off(connection, table):
                has_rows = _has_rows(connection, table)
                connection.execute(table.publish(names.publication))
                record(connection, names, [table], PENDING if has_rows else DONE)
        except psycopg.Error as error:
            report(str(table), f"{table}: not taken in yet: {str(error).strip()}")
        else:
            pending = pending or has_rows
            _print(f"{table}: taken into the capture" + (", snapshot to come" if has_rows else ""))
    return pending


def publish_keyless(
    connection: Connection,
    signalling: Connection,
    names: Names,
    table: SourceTable,
    role: str,
    notices: Notices,
    report: Report,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Take in a table without a key; return whether that succeeded.

    Args:
        connection: a session of the owner, which holds the lock.
        signalling: another session, which commits at once.
    """
    try:
        grant(connection, table, role)
        with writers_held_off(connection, table):
            if _has_rows(connection, table):
                notices.take(str(table))  # of a previous attempt
                mark = f"bag-{table.oid}-{time.time_ns()}"
                ask_for_snapshot(signalling, names, [table], kind="blocking", mark=mark)
                _await_scan(table, notices, clock() + KEYLESS_SNAPSHOT_S_MAX, clock)
            connection.execute(table.publish(names.publication))
            record(connection, names, [table], DONE)
    except (psycopg.Error, TimeoutError) as error:
        report(str(table), f"{table}: not taken in yet: {str(error).strip()}")
        return False
    _print(f"{table}: taken into the capture, as a bag of rows")
    return True


def signal_snapshots(
    connection: Connection, names: Names, tables: Sequence[SourceTable], skipped: Container[int]
) -> None:
    """Do step 3: request the rows that the tables had before they were published.

    Args:
        skipped: oids of tables whose incremental snapshot did not succeed.
    """
    beside = [t for t in tables if can_be_incremental(t) and t.oid not in skipped]
    for kind, chosen in (
        ("incremental", beside),
        ("blocking", [table for table in tables if table not in beside]),
    ):
        if chosen:
            mark = f"rows-{kind}-{time.time_ns()}"
            ask_for_snapshot(connection, names, chosen, kind=kind, mark=mark)
            _print(f"{kind} snapshot signalled: {', '.join(map(str, chosen))}")


def describe_again(connection: Connection, names: Names) -> None:
    """Make the server describe each published table in the stream before its next row.

    A blocking snapshot has read newer columns of all tables than the log has. Setting an option of
    the publication to its present value has this effect and no other.
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
    """Whether the table's existing rows can be read beside the stream."""
    # Debezium silently skips names that it cannot parse there. It also reads all columns but knows
    # only those of the stream, which has no generated ones.
    return table.plain and not table.generated


def grant(connection: Connection, table: SourceTable, role: str) -> None:
    if not table.readable:
        for statement in table.grant(role):
            connection.execute(statement)


@contextmanager
def writers_held_off(connection: Connection, table: SourceTable) -> Iterator[None]:
    """Open a transaction that blocks writers of the table once its present writers have ended."""
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
    raise TimeoutError(f"its snapshot did not end within {KEYLESS_SNAPSHOT_S_MAX:.0f} s")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def published_by_hand(table: SourceTable, names: Names) -> str:
    """Describe the problem of a keyless table that somebody else has published."""
    unpublish = table.unpublish(names.publication).as_string(None)
    return (
        f"{table}: it was published by hand and has no key: the rows that it had before are not in "
        f"the lake\n  hint: run {unpublish}; then start with --apply"
    )

"""Makes a new replication slot, and brings the source's log past a position."""

from __future__ import annotations

import time

import psycopg

from app.errors import HeadwaterError
from app.source.database import Connection, connect
from spark_streaming.contract.lsn import Lsn

APPLICATION = "headwater recover"
MESSAGE_BYTES = 8 << 20
# The wait for a new slot, which begins only when every running transaction has ended.
SLOT_WAIT_S = 600
SLOT_RELEASED_S = 60.0


def advance_log(connection: Connection, beyond: int) -> None:
    """Write empty messages into the log until it ends after this position.

    They belong to no transaction and no table, and the new slot begins after them.
    """
    while True:
        row = connection.execute(
            "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        ).fetchone()
        left = beyond - int(row[0] if row else 0)
        if left < 0:
            return
        size = max(1, min(left, MESSAGE_BYTES))
        connection.execute(
            "SELECT pg_logical_emit_message(false, 'headwater.advance', repeat('-', %s))", [size]
        )


def new_slot(capture_dsn: str, name: str) -> Lsn:
    """Make the slot, in place of an old one; return the position at which it begins."""
    with connect(capture_dsn, application=APPLICATION) as session:
        session.execute(f"SET statement_timeout = '{SLOT_WAIT_S}s'")
        _drop_slot(session, name)
        try:
            row = session.execute(
                "SELECT (lsn - '0/0'::pg_lsn)::bigint "
                "FROM pg_create_logical_replication_slot(%s, 'pgoutput')",
                [name],
            ).fetchone()
        except psycopg.errors.QueryCanceled as error:
            raise HeadwaterError(
                f"the replication slot `{name}` could not be made within {SLOT_WAIT_S} s",
                detail="it can begin only when every transaction that is running now has ended",
                hint="see pg_stat_activity for the oldest xact_start, and run `headwater recover` again",
            ) from error
        except psycopg.Error as error:
            raise HeadwaterError(
                f"the source refuses to make the replication slot `{name}`",
                detail=str(error).strip(),
                hint="the capture role needs REPLICATION, the server a free replication slot "
                "(max_replication_slots): see `headwater preflight`",
            ) from error
    assert row is not None  # the function always returns one row
    return Lsn(int(row[0]))


def _drop_slot(session: Connection, name: str) -> None:
    """Drop the slot if it exists; the session that read it may take a moment to end."""
    limit = time.monotonic() + SLOT_RELEASED_S
    while True:
        try:
            session.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = %s",
                [name],
            )
            return
        except psycopg.errors.UndefinedObject:
            return
        except psycopg.errors.ObjectInUse as error:
            if time.monotonic() > limit:
                raise HeadwaterError(
                    f"another session reads the replication slot `{name}`",
                    detail=str(error).strip(),
                    hint="if another stack uses it, give one of the two a `slot_name` of its own in "
                    "a --profile; else end that session with pg_terminate_backend",
                ) from error
            time.sleep(0.5)

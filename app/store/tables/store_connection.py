"""Opens engines for the store's database, and copies rows into it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import cast

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, Table, create_engine, make_url
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import ArgumentError

from app.errors import HeadwaterError
from spark_streaming.storage.connections import TCP_LIMITS

CONNECT_TIMEOUT_S = 10
# A statement that waits for a lock longer than this fails: a workload must never hang.
LOCK_TIMEOUT_MS = 10_000


def store_dsn() -> str:
    """The DSN of the store's owner: `HEADWATER_SOURCE_DSN`, else the current home's settings.

    In the embedded source this is a separate role, which is created here if it is missing.
    The DSN holds a password: never print it.
    """
    source, store = (os.environ.get(f"HEADWATER_{name}_DSN") for name in ("SOURCE", "STORE"))
    if source and not store:
        return source
    if not (source and store):
        from app.environment import settings

        found = settings.load()
        source, store = found.source_dsn, found.store_dsn
    if source != store:
        from app.store.tables.owner import ensure_owner

        ensure_owner(source, store)
    return store


def engine_for(dsn: str, *, application: str = "headwater-store", pool_size: int = 2) -> Engine:
    """An engine over a libpq URL (`postgresql://user:password@host:port/database`).

    Raises: HeadwaterError if the DSN is not such a URL; its text does not contain the DSN.
    """
    try:
        url = make_url(dsn)
    except ArgumentError:
        raise HeadwaterError(
            "the source's DSN is not a URL",
            hint="write it as postgresql://user:password@host:port/database",
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise HeadwaterError(
            "the source's DSN is not one of Postgres",
            detail=f"its scheme is `{url.drivername}`",
            hint="write it as postgresql://user:password@host:port/database",
        )
    given = url.query.get("options", "")
    options = given if isinstance(given, str) else " ".join(given)
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        # Error texts must not contain rows of a user's database.
        hide_parameters=True,
        connect_args={
            "application_name": application,
            **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
            "options": f"{options} -c timezone=UTC -c lock_timeout={LOCK_TIMEOUT_MS}".strip(),
        },
    )


def driver(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    """The psycopg connection below `connection`, in the same transaction; for COPY."""
    return cast("psycopg.Connection[tuple[object, ...]]", connection.connection.driver_connection)


def copy_rows(connection: Connection, table: Table, rows: Iterable[Mapping[str, object]]) -> int:
    """Stream `rows` (dicts that hold every column of `table`) into it by COPY, in bounded memory.

    Returns: the number of rows copied.
    """
    columns = [(column.name, isinstance(column.type, JSONB)) for column in table.columns]
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table.name), sql.SQL(", ").join(sql.Identifier(c) for c, _ in columns)
    )
    copied = 0
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([Jsonb(row[c]) if is_json else row[c] for c, is_json in columns])
            copied += 1
    return copied

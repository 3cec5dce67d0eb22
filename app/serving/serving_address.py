"""The serving database: its address, its roles, and the published tables."""

from __future__ import annotations

from typing import Any

import psycopg

from app.environment.settings import Settings
from app.errors import HeadwaterError
from spark_streaming.storage.connections import TCP_LIMITS

DATABASE = "serving"
OWNER, OWNER_SECRET = "serving", "serving_db_password"
READER, READER_SECRET = "reader", "serving_reader_password"
PUBLICATION_COLUMNS = (
    "name", "source_table", "rows", "delta_version", "complete_lsn", "complete_to", "published_at",
    "job", "run_id", "digest",
)  # fmt: skip


def owner_dsn(settings: Settings) -> str:
    """Return the DSN of the role that owns the published tables; it holds a password."""
    return _dsn(settings, OWNER, OWNER_SECRET)


def reader_dsn(settings: Settings) -> str:
    """Return the DSN of the role that only reads; holds a password."""
    return _dsn(settings, READER, READER_SECRET)


def _dsn(settings: Settings, role: str, secret: str) -> str:
    address = settings.ports.address("serving_db")
    return f"postgresql://{role}:{settings.secret(secret)}@{address}/{DATABASE}"


def publications(settings: Settings) -> list[tuple[Any, ...]]:
    """Return the published tables, one row each, with PUBLICATION_COLUMNS."""
    try:
        with psycopg.connect(reader_dsn(settings), **TCP_LIMITS) as connection:
            columns = ", ".join(PUBLICATION_COLUMNS)
            statement = f"SELECT {columns} FROM publications ORDER BY name"
            return connection.execute(statement.encode()).fetchall()
    except psycopg.errors.UndefinedTable:
        return []  # nothing was published yet
    except psycopg.OperationalError as error:
        raise HeadwaterError(
            "the serving database does not answer",
            detail=str(error).strip().splitlines()[0],
            hint="`./headwater up --jobs` starts it; `./headwater status serving-db` says how it is",
        ) from error

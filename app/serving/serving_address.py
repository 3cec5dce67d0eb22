"""The serving database: its address, its roles, and the published tables."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import inspect, make_url, select
from sqlalchemy.exc import DBAPIError

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.serving.publications_table import PUBLICATIONS
from app.serving.serving_database import READER, ServingDatabase, short
from app.serving.serving_mysql import ServingMysql
from app.serving.serving_postgres import ServingPostgres

DATABASE = "serving"
OWNER, OWNER_SECRET = "serving", "serving_db_password"
READER_SECRET = "serving_reader_password"
PUBLICATION_COLUMNS = (
    "name", "source_table", "rows", "delta_version", "complete_lsn", "complete_to", "published_at",
    "job", "run_id", "digest",
)  # fmt: skip


def serving_database(dsn: str) -> ServingDatabase:
    """Return the database of a DSN, which the profile has checked."""
    return ServingMysql(dsn) if dsn.startswith("mysql://") else ServingPostgres(dsn)


def owner_dsn(settings: Settings) -> str:
    """Return the DSN of the role that owns the published tables; it holds a password."""
    if settings.profile.serving_dsn is not None:
        return settings.secret("serving_dsn")
    return _dsn(settings, OWNER, OWNER_SECRET)


def reader_dsn(settings: Settings) -> str:
    """Return the DSN of a role that reads; it holds a password.

    In a database of one's own the readers' passwords are not known: that is the owner's there.
    """
    if settings.profile.serving_dsn is not None:
        return owner_dsn(settings)
    return _dsn(settings, READER, READER_SECRET)


def _dsn(settings: Settings, role: str, secret: str) -> str:
    address = settings.ports.address("serving_db")
    return f"postgresql://{role}:{settings.secret(secret)}@{address}/{DATABASE}"


def reader_address(settings: Settings) -> dict[str, Any]:
    """Return what an application needs to read. Without a password where it is the user's own."""
    if settings.profile.serving_dsn is None:
        return {
            "server": "postgresql",
            "host": settings.ports.host("serving_db"),
            "port": settings.ports.number("serving_db"),
            "database": DATABASE,
            "user": READER,
            "password": settings.secret(READER_SECRET),
        }
    dsn = owner_dsn(settings)
    if dsn.startswith("mysql://"):
        url = make_url(dsn)
        found = {"host": url.host, "port": url.port or 3306, "database": url.database}
        return {"server": "mysql", **found, "user": READER, "password": None}
    known = conninfo_to_dict(dsn)
    found = {"host": known.get("host"), "port": known.get("port") or 5432}
    database = known.get("dbname")
    return {"server": "postgresql", **found, "database": database, "user": READER, "password": None}


def publications(settings: Settings) -> list[tuple[Any, ...]]:
    """Return the published tables, one row each, with PUBLICATION_COLUMNS."""
    columns = [PUBLICATIONS.c[name] for name in PUBLICATION_COLUMNS]
    try:
        with serving_database(reader_dsn(settings)).connected() as connection:
            if not inspect(connection).has_table(PUBLICATIONS.name):
                return []  # nothing was published yet
            ordered = select(*columns).order_by(PUBLICATIONS.c.name)
            return [tuple(row) for row in connection.execute(ordered)]
    except DBAPIError as error:
        own = settings.profile.serving_dsn is not None
        raise HeadwaterError(
            "the serving database does not answer",
            detail=short(error),
            hint="./headwater profile check FILE says what is wrong with `serving_dsn`"
            if own
            else "`./headwater up --jobs` starts it; `./headwater status serving-db` says how it is",
        ) from error

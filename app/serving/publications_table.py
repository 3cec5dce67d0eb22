"""Table `publications` of a serving database: what is published there, and when it was complete."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import BIGINT, TEXT, Column, Dialect, MetaData, Table
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """A moment: `timestamptz` in Postgres; in MySQL, which has no zones, a DATETIME in UTC."""

    impl = postgresql.TIMESTAMP(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type in this database."""
        return mysql.DATETIME(fsp=6) if dialect.name == "mysql" else self.impl_instance

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the database is given it."""
        return value if value is None or dialect.name != "mysql" else naive_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone."""
        naive = value is not None and value.tzinfo is None
        return value.replace(tzinfo=timezone.utc) if value is not None and naive else value


def naive_utc(moment: datetime) -> datetime:
    """Return the moment in UTC, without a zone."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


_TEXT = TEXT()
PUBLICATIONS = Table(
    "publications",
    MetaData(),
    # As long as the name of a table may be in MySQL.
    Column("name", _TEXT.with_variant(mysql.VARCHAR(64), "mysql"), primary_key=True),
    Column("source_table", _TEXT, nullable=False),
    Column("delta_version", BIGINT),
    Column("complete_lsn", BIGINT),
    Column("complete_to", UtcTime),
    Column("rows", BIGINT, nullable=False),
    Column("digest", _TEXT, nullable=False),
    Column("job", _TEXT),
    Column("run_id", _TEXT),
    Column("published_at", UtcTime, nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)

"""A test's own database on a running server, and comparison of two databases by whole rows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import Engine, Table, select

from app.store.tables.store_connection import engine_for


@contextmanager
def fresh_database(server_dsn: str) -> Iterator[str]:
    """Create another database on the server; yields its DSN; dropped at the end."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        yield server_dsn.rpartition("/")[0] + f"/{name}"
    finally:
        with psycopg.connect(server_dsn, autocommit=True) as connection:
            dropped = sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
            connection.execute(dropped)


@contextmanager
def fresh_engine(server_dsn: str) -> Iterator[Engine]:
    """An engine on a new database."""
    with fresh_database(server_dsn) as dsn:
        engine = engine_for(dsn)
        try:
            yield engine
        finally:
            engine.dispose()


def rows_of(engine: Engine, table: Table) -> list[tuple[object, ...]]:
    """Every complete row of `table`, in the order of its key."""
    ordered = select(table).order_by(*table.primary_key.columns)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(ordered)]

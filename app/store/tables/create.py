"""Creates the movie store: tables, types, indexes, comments."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, text

from app.store.tables.schema import TABLE_NAMES, metadata

# Two creators at once would both see "not there yet"; the key is arbitrary but fixed.
_ADVISORY_KEY = 0x6865_6164_0001

# Long descriptions are read by substring and hardly compress: stored out of line as they are.
_STORAGE = "alter table movies alter column description set storage external"


def create_store(engine: Engine) -> list[str]:
    """Create the missing parts of the movie store; do nothing if it is complete.

    Returns: the names of the tables that were created, sorted.
    """
    with engine.begin() as connection:
        return create_within(connection)


def create_within(connection: Connection) -> list[str]:
    """`create_store` inside the caller's transaction; holds the store's lock until its end."""
    lock_store(connection)
    missing = sorted(TABLE_NAMES - set(inspect(connection).get_table_names(schema="public")))
    metadata.create_all(connection)
    if "movies" in missing:
        connection.execute(text(_STORAGE))
    return missing


def lock_store(connection: Connection) -> None:
    """Let one creator or seeder in at a time; released with the transaction."""
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})

"""A Postgres as the serving database: all of a publication is one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection, NullPool, Table, create_engine, delete, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from app.serving.publications_table import PUBLICATIONS
from app.serving.serving_database import LOCK_WAIT_S, PROGRAM, READER, ServingDatabase, quoted
from app.source.findings import NOTE, OK
from spark_streaming.storage.connections import TCP_LIMITS

_NEW = "_new_"
_KEY_VIOLATIONS = ("23505", "23502")  # unique, not null
_UNREAD = text(
    "SELECT 1 FROM pg_roles WHERE rolname = :reader "
    "AND NOT has_table_privilege(oid, to_regclass(:name), 'SELECT')"
)


class ServingPostgres(ServingDatabase):
    """See ServingDatabase. A publication that is killed leaves nothing: its transaction ends with it."""

    server = "postgresql"

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Connect, and begin a transaction."""
        engine = create_engine(
            "postgresql+psycopg://",
            # libpq reads the address: it knows more of it than SQLAlchemy's URL does.
            creator=lambda: psycopg.connect(self._dsn, **TCP_LIMITS, application_name=PROGRAM),
            poolclass=NullPool,
            hide_parameters=True,
        )
        with engine.begin() as connection:
            yield connection

    @contextmanager
    def publishing(self, connection: Connection, name: str) -> Iterator[str]:
        """Wait for another publication of the table; the transaction's end is this one's."""
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})
        yield _NEW + secrets.token_hex(8)

    def make_publications(self, connection: Connection) -> None:
        """Make table `publications` where it is missing, and let the reader read it."""
        connection.execute(CreateTable(PUBLICATIONS, if_not_exists=True))
        self._let_read(connection, PUBLICATIONS.name)

    def load(self, connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        """Copy the rows."""
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        # FREEZE: to a transaction that began before, too, the new table is whole, not empty.
        statement = sql.SQL("COPY {} FROM STDIN WITH (FREEZE)").format(sql.Identifier(table.name))
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def add_key(self, connection: Connection, table: Table, key: Sequence[str]) -> None:
        """Add the key: its index is built faster from all rows at once."""
        if not key:
            return
        # Its index must not have the name of the old table's, which is still there.
        name = quoted(connection, f"_key_{secrets.token_hex(8)}")
        columns = ", ".join(quoted(connection, one) for one in key)
        connection.exec_driver_sql(
            f"ALTER TABLE {quoted(connection, table.name)} ADD CONSTRAINT {name} PRIMARY KEY ({columns})"
        )

    def replace(
        self, connection: Connection, table: Table, name: str, record: Mapping[str, Any]
    ) -> None:
        """Drop the old table, rename the new one, record it."""
        new, target = quoted(connection, table.name), quoted(connection, name)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {target}")
        connection.exec_driver_sql(f"ALTER TABLE {new} RENAME TO {target}")
        self._let_read(connection, name)
        connection.execute(delete(PUBLICATIONS).where(PUBLICATIONS.c.name == name))
        connection.execute(insert(PUBLICATIONS).values(dict(record)))
        connection.exec_driver_sql(f"ANALYZE {target}")

    def _let_read(self, connection: Connection, name: str) -> None:
        """Grant the reader to read a table. A database of one's own need not have that role."""
        target = quoted(connection, name)
        if connection.execute(_UNREAD, {"reader": READER, "name": target}).first():
            connection.exec_driver_sql(f"GRANT SELECT ON {target} TO {READER}")

    def is_key_violation(self, error: DBAPIError) -> bool:
        """Whether a value of the new table's key is there twice, or missing."""
        found = error.orig
        return (
            isinstance(found, psycopg.Error)
            and found.sqlstate in _KEY_VIOLATIONS
            and (found.diag.table_name or "").startswith(_NEW)
        )

    def try_rights(self, connection: Connection) -> None:
        """Make a table and change `publications`, and roll both back."""
        with connection.begin_nested() as attempt:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S // 10}s'")
            connection.exec_driver_sql(f"CREATE TABLE {_NEW}{secrets.token_hex(8)} (a int)")
            self.make_publications(connection)
            connection.execute(delete(PUBLICATIONS).where(PUBLICATIONS.c.name == ""))
            attempt.rollback()

    def grants(self, connection: Connection) -> str:
        """Return the grant, and whose `publications` must be."""
        row = connection.exec_driver_sql(
            "SELECT quote_ident(current_user), quote_ident(coalesce(current_schema(), 'public')), "
            "(SELECT tableowner <> current_user FROM pg_tables WHERE tablename = 'publications' "
            "AND schemaname = current_schema())"
        ).one()
        user, schema, others = row
        grant = f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};"
        return f"{grant} ALTER TABLE {schema}.publications OWNER TO {user};" if others else grant

    def readers(self, connection: Connection) -> tuple[str, str, str]:
        """Say whether the role is there and sees the schema: its tables are granted at each publication."""
        schema, there, sees = connection.execute(
            text(
                "SELECT quote_ident(current_schema()), oid IS NOT NULL, "
                "coalesce(has_schema_privilege(oid, current_schema(), 'USAGE'), false) "
                "FROM (SELECT 1) AS one LEFT JOIN pg_roles ON rolname = :reader"
            ),
            {"reader": READER},
        ).one()
        usage = f"GRANT USAGE ON SCHEMA {schema} TO {READER};"
        if not there:
            seen = f"there is no role `{READER}`: grant what you publish to a role of yours, or make it"
            return NOTE, seen, f"CREATE ROLE {READER} LOGIN PASSWORD '…'; {usage}"
        if not sees:
            return NOTE, f"role `{READER}` does not see schema {schema}", usage
        return OK, f"role `{READER}` reads what is published", ""

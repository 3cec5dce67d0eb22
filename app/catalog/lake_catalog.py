"""Changes Trino's catalog `lake` for the registrar: schemas, registered tables, views."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trino.dbapi

from app.environment.trino_accounts import REGISTRAR
from app.query.trino_connection import CATALOG, connect, explain, is_unreachable


class TrinoUnreachable(Exception):
    """Raised when Trino does not answer; the text has the observed error."""


class Catalog:
    """The catalog of one Trino. It keeps no state; each call is one or more queries.

    Every method raises TrinoUnreachable if Trino does not answer, and HeadwaterError if Trino
    refuses the statement.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def make_schemas(self, schemas: Iterable[str]) -> None:
        """Make the missing schemas."""
        existing = {row[0] for row in self._run(f"SHOW SCHEMAS FROM {CATALOG}")}
        for schema in schemas:
            if schema not in existing:
                self._run(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{identifier(schema)}")

    def relations(self, schemas: Iterable[str]) -> dict[str, str]:
        """List the schemas' content: `schema.name` → `BASE TABLE` or `VIEW`."""
        rows = self._run(
            f"SELECT table_schema, table_name, table_type FROM {CATALOG}.information_schema.tables "
            f"WHERE table_schema IN ({', '.join(map(literal, schemas))})"
        )
        return {f"{schema}.{table}": kind for schema, table, kind in rows}

    def columns(self, schema: str, table: str) -> list[tuple[str, str]]:
        """List the columns of a table or view with their types, in their order."""
        rows = self._run(
            f"SELECT column_name, data_type FROM {CATALOG}.information_schema.columns "
            f"WHERE table_schema = {literal(schema)} AND table_name = {literal(table)} "
            "ORDER BY ordinal_position"
        )
        return [(str(name), str(kind)) for name, kind in rows]

    def register(self, schema: str, table: str, location: str) -> None:
        """Register the Delta table at `location` (s3://…)."""
        self._run(
            f"CALL {CATALOG}.system.register_table(schema_name => {literal(schema)}, "
            f"table_name => {literal(table)}, table_location => {literal(location)})"
        )

    def unregister(self, schema: str, table: str) -> None:
        """Unregister a table; its files stay."""
        self._run(
            f"CALL {CATALOG}.system.unregister_table(schema_name => {literal(schema)}, "
            f"table_name => {literal(table)})"
        )

    def forget_cached_logs(self) -> None:
        """Flush Trino's cached table logs."""
        self._run(f"CALL {CATALOG}.system.flush_metadata_cache()")

    def explain(self, sql: str) -> None:
        """Let Trino plan a query, without running it. Raises: HeadwaterError if it refuses it."""
        self._run(f"EXPLAIN (TYPE VALIDATE) {sql}")

    def run_view(self, create_sql: str) -> None:
        """Run a CREATE OR REPLACE VIEW statement."""
        self._run(create_sql)

    def drop_view(self, schema: str, view: str) -> None:
        """Drop a view if it exists."""
        self._run(f"DROP VIEW IF EXISTS {CATALOG}.{identifier(schema)}.{identifier(view)}")

    def _run(self, sql: str) -> list[list[Any]]:
        connection: trino.dbapi.Connection = connect(
            self._url, user=REGISTRAR, source="headwater-registrar"
        )
        try:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())
        except Exception as error:
            explained = explain(error, self._url)
            if is_unreachable(error):
                raise TrinoUnreachable(explained.detail) from error
            raise explained from error
        finally:
            connection.close()


def identifier(name: str) -> str:
    """Quote `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"

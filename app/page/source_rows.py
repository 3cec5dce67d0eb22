"""The source as the page shows and edits it: captured tables and their rows.

Values are text in both directions, as Postgres prints them: every type works, and Postgres checks
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from app.page.answers import ROWS_MAX, Refused, cell_of
from app.page.statements import run_statements
from spark_streaming.storage.connections import TCP_LIMITS

CHANGES_MAX = 100
CONNECT_TIMEOUT_S = 5
# Times are printed as in silver; no statement waits for ever.
_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=postgres -c statement_timeout=15000 "
    "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000"
)
_READING = f"{_OPTIONS} -c default_transaction_read_only=on"
# The session's own role counts, even if the DSN's options set another: SQL can return to it.
_POWERFUL = """
select r.rolname, r.rolsuper from pg_roles r where r.rolname = session_user and (r.rolsuper
  or exists (select from pg_roles g where pg_has_role(r.oid, g.oid, 'member') and g.rolname in
    ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')))
"""
_OWNER_HINT = "give the DSN of the tables' owner, not a superuser: ./headwater up --source DSN"
_TABLES = """
select t.schemaname, t.tablename, greatest(c.reltuples, 0)::bigint
from pg_publication_tables t
join pg_namespace n on n.nspname = t.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
where t.pubname = %s and t.schemaname <> 'headwater' order by 1, 2
"""
_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), not a.attnotnull,
  a.attgenerated <> '' or a.attidentity = 'a', a.atthasdef or a.attidentity <> '',
  coalesce(array_position(i.indkey::int2[], a.attnum), -1)
from pg_attribute a
left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
"""


class Change(BaseModel):
    """A change of one row; `key` and `values` are column → text, None for NULL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Literal["insert", "update", "delete"]
    table: str = Field(max_length=200)
    key: dict[str, str] = Field(default_factory=dict, max_length=64)
    values: dict[str, str | None] = Field(default_factory=dict, max_length=1_700)


class Edit(BaseModel):
    """Changes that are committed together, in this order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    changes: list[Change] = Field(min_length=1, max_length=CHANGES_MAX)


class Statement(BaseModel):
    """SQL as a user typed it: one statement, or several that are one transaction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sql: str = Field(min_length=1, max_length=100_000)


class Rows(BaseModel):
    """Rows to compare, by their keys: column → text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(max_length=200)
    keys: list[dict[str, str]] = Field(max_length=ROWS_MAX)


@dataclass(frozen=True)
class Column:
    """A column; `computed`: Postgres generates its values; `filled`: it has a default."""

    name: str
    type: str
    nullable: bool
    computed: bool
    filled: bool
    key: bool


@dataclass(frozen=True)
class Table:
    """A captured table; its name is `schema.table`."""

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def name(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.table)


class Source:
    """The source database, with a connection for each request.

    Args:
        dsn: logs in as the owner of the tables; holds a password: never print it.
        publication: the page shows its tables.
    Every method raises Refused, with the database's own message if there is one.
    """

    def __init__(self, dsn: str, publication: str) -> None:
        self._dsn = dsn
        self._publication = publication

    def tables(self) -> list[dict[str, Any]]:
        """List the captured tables with an estimate of their rows."""
        with self._connected() as connection:
            found = connection.execute(_TABLES, [self._publication]).fetchall()
        return [{"table": f"{s}.{t}", "rows": rows} for s, t, rows in found]

    def rows(self, table: str, *, offset: int, limit: int, descending: bool) -> dict[str, Any]:
        """Read some rows in the key's order, with a description of the columns."""
        with self._connected() as connection:
            described = self._table(connection, table)
            texts = [sql.SQL("{}::text").format(sql.Identifier(c.name)) for c in described.columns]
            turn = sql.SQL(" desc" if descending else "")
            order = [sql.Identifier(name) + turn for name in described.key]
            query = sql.SQL("select {} from {} {} limit {} offset {}").format(
                sql.SQL(", ").join(texts),
                described.name,
                sql.SQL("order by ") + sql.SQL(", ").join(order) if order else sql.SQL(""),
                min(limit, ROWS_MAX),
                offset,
            )
            found = connection.execute(query).fetchall()
        cells = [[cell_of(value) for value in row] for row in found]
        return {
            "table": table,
            "columns": [vars(column) for column in described.columns],
            "rows": [[text for text, _ in row] for row in cells],
            # Row and column of each value that is cut, because editing it would lose the rest.
            "cut": [[r, c] for r, row in enumerate(cells) for c, (_, cut) in enumerate(row) if cut],
        }

    def edit(self, edit: Edit) -> dict[str, Any]:
        """Commit all changes in one transaction, or none of them.

        Returns: `transaction` (32 bits, as events name it).
        """
        with self._writing() as connection, connection.transaction():
            for number, change in enumerate(edit.changes, 1):
                table = self._table(connection, change.table)
                statement = statement_of(change, table)
                try:
                    done = connection.execute(*statement)
                except psycopg.Error as error:
                    raise Refused(422, change=number, **facts_of(error)) from error
                if done.rowcount != 1:
                    raise Refused(
                        409,
                        message=f"change {number} found {done.rowcount} rows with its key in "
                        f"{change.table}; nothing was committed",
                        change=number,
                    )
            row = connection.execute("select txid_current()::text::numeric % 4294967296").fetchone()
        assert row is not None
        return {"transaction": int(row[0]), "changes": len(edit.changes)}

    def run(self, statement: Statement) -> list[dict[str, Any]]:
        """Run SQL as it was typed; see `run_statements`."""
        with self._writing() as connection:
            return run_statements(connection, statement.sql)

    def read_only(self) -> str | None:
        """Return why rows cannot be edited; None if they can."""
        with self._connected() as connection:
            return _why_read_only(connection)

    def _table(self, connection: psycopg.Connection[Any], name: str) -> Table:
        schema, _, table = name.partition(".")
        known = connection.execute(_TABLES, [self._publication]).fetchall()
        if (schema, table) not in {(s, t) for s, t, _ in known}:
            raise Refused(404, message=f"`{name[:200]}` is not a captured table")
        quoted = sql.Identifier(schema, table).as_string(connection)
        found = connection.execute(_COLUMNS, [quoted]).fetchall()
        key = sorted((place, column) for column, _, _, _, _, place in found if place >= 0)
        columns = [
            Column(n, t, null, made, filled, at >= 0) for n, t, null, made, filled, at in found
        ]
        return Table(schema, table, tuple(columns), tuple(column for _, column in key))

    @contextmanager
    def _writing(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a session that may write. Raises: Refused if its role could reach beyond the database."""
        with self._connected(_OPTIONS) as connection:
            if why := _why_read_only(connection):
                raise Refused(403, message=why, hint=_OWNER_HINT)
            yield connection

    @contextmanager
    def _connected(self, options: str = _READING) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(
                self._dsn,
                autocommit=True,
                **{**TCP_LIMITS, "connect_timeout": CONNECT_TIMEOUT_S},
                application_name="headwater-page",
                options=options,
            ) as connection:
                yield connection
        except psycopg.OperationalError as error:
            if error.sqlstate is None:
                raise Refused(503, message="the source database does not answer") from error
            raise Refused(422, **facts_of(error)) from error
        except psycopg.Error as error:
            raise Refused(422, **facts_of(error)) from error


def _why_read_only(connection: psycopg.Connection[Any]) -> str | None:
    """Return why a role may not run users' SQL: it could start programs or read files on the server."""
    row = connection.execute(_POWERFUL).fetchone()
    if row is None:
        return None
    role, is_superuser = row
    kind = "a superuser" if is_superuser else "a role that reaches the server's programs or files"
    return f"the page can only read here: `{role}`, the role of the source's DSN, is {kind}"


def statement_of(change: Change, table: Table) -> tuple[sql.Composed, Sequence[str | None]]:
    """Make the statement of a change and its parameters. Raises: Refused for an unknown column."""
    types = {column.name: column.type for column in table.columns}
    for name in [*change.key, *change.values]:
        if name not in types:
            raise Refused(422, message=f"{change.table} has no column `{name[:100]}`")
    if change.op != "insert" and (not table.key or set(change.key) != set(table.key)):
        wanted = ", ".join(table.key)
        raise Refused(
            422,
            message=f"name the row by its key ({wanted})"
            if wanted
            else f"{change.table} has no key: rows cannot be named here, use SQL",
        )
    if change.op == "insert":
        return _insert(change.values, table, types)
    where = sql.SQL(" and ").join(_equals(name, types) for name in change.key)
    keys = list(change.key.values())
    if change.op == "delete":
        return sql.SQL("delete from {} where {}").format(table.name, where), keys
    if not change.values:
        raise Refused(422, message="an update needs a value")
    sets = sql.SQL(", ").join(_equals(name, types) for name in change.values)
    query = sql.SQL("update {} set {} where {}").format(table.name, sets, where)
    return query, [*change.values.values(), *keys]


def _insert(
    values: Mapping[str, str | None], table: Table, types: Mapping[str, str]
) -> tuple[sql.Composed, Sequence[str | None]]:
    if not values:
        return sql.SQL("insert into {} default values").format(table.name), []
    query = sql.SQL("insert into {} ({}) values ({})").format(
        table.name,
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(_typed(types[name]) for name in values),
    )
    return query, list(values.values())


def _equals(name: str, types: Mapping[str, str]) -> sql.Composed:
    return sql.SQL("{} = {}").format(sql.Identifier(name), _typed(types[name]))


def _typed(kind: str) -> sql.Composed:
    # `format_type` has quoted the type. The value goes through text, so that Postgres parses it.
    return sql.SQL("%s::text::") + sql.SQL(kind)


def facts_of(error: psycopg.Error) -> dict[str, Any]:
    """Return the database's own report of an error, field by field."""
    facts = {name: getattr(error.diag, attribute) for name, attribute in _DIAG.items()}
    facts["message"] = facts["message"] or str(error).strip().splitlines()[0]
    return facts


_DIAG = {
    "message": "message_primary",
    "severity": "severity",
    "sqlstate": "sqlstate",
    "detail": "message_detail",
    "hint": "message_hint",
    "position": "statement_position",
    "context": "context",
    "constraint": "constraint_name",
}

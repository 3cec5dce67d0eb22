"""The source as the page shows and edits it: captured tables, rows as Postgres prints them.

Values travel as text in both directions, so every type works and Postgres itself checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import pq, sql
from pydantic import BaseModel, ConfigDict, Field

ROWS_MAX = 200
CELL_CHARS_MAX = 2_000
CHANGES_MAX = 100
CONNECT_TIMEOUT_S = 5
# Times read as silver's do; and nothing waits for ever.
_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=postgres -c statement_timeout=15000 "
    "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000"
)
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
_TOLD = {
    "message": pq.DiagnosticField.MESSAGE_PRIMARY,
    "severity": pq.DiagnosticField.SEVERITY,
    "sqlstate": pq.DiagnosticField.SQLSTATE,
    "detail": pq.DiagnosticField.MESSAGE_DETAIL,
    "hint": pq.DiagnosticField.MESSAGE_HINT,
    "position": pq.DiagnosticField.STATEMENT_POSITION,
    "context": pq.DiagnosticField.CONTEXT,
    "constraint": pq.DiagnosticField.CONSTRAINT_NAME,
}


class Refused(Exception):
    """What the page is told in place of an answer; `told` holds it in parts, by its name."""

    def __init__(self, status: int, **told: Any) -> None:
        super().__init__(told.get("message"))
        self.status = status
        self.told = {name: value for name, value in told.items() if value is not None}


class Change(BaseModel):
    """One row's change. `key` and `values` are column → text, None for NULL."""

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
    """SQL as somebody typed it: one statement, or several that are one transaction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sql: str = Field(min_length=1, max_length=100_000)


class Rows(BaseModel):
    """Rows to compare, by their keys: column → text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(max_length=200)
    keys: list[dict[str, str]] = Field(max_length=ROWS_MAX)


@dataclass(frozen=True)
class Column:
    """A column; `computed`: Postgres makes its values, `filled`: it has a default."""

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
    """The source database, one connection a request.

    Args:
        dsn: of the owner of its tables; holds a password: never print it.
        publication: its tables are those that the page shows.
    Every method raises Refused, with what the database said where it said something.
    """

    def __init__(self, dsn: str, publication: str) -> None:
        self._dsn = dsn
        self._publication = publication

    def tables(self) -> list[dict[str, Any]]:
        """The captured tables with about how many rows they have."""
        with self._connected() as connection:
            found = connection.execute(_TABLES, [self._publication]).fetchall()
        return [{"table": f"{s}.{t}", "rows": rows} for s, t, rows in found]

    def rows(self, table: str, *, offset: int, limit: int, descending: bool) -> dict[str, Any]:
        """Some rows in the key's order, and what the columns are."""
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
        cells = [[_cell(value) for value in row] for row in found]
        return {
            "table": table,
            "columns": [vars(column) for column in described.columns],
            "rows": [[text for text, _ in row] for row in cells],
            # Places whose value is longer than what is shown: editing them would lose the rest.
            "cut": [[r, c] for r, row in enumerate(cells) for c, (_, cut) in enumerate(row) if cut],
        }

    def edit(self, edit: Edit) -> dict[str, Any]:
        """Commit changes in one transaction, or none of them.

        Returns: `transaction` (32 bits, as events name it).
        """
        with self._connected() as connection, connection.transaction():
            for number, change in enumerate(edit.changes, 1):
                table = self._table(connection, change.table)
                statement = statement_of(change, table)
                try:
                    done = connection.execute(*statement)
                except psycopg.Error as error:
                    raise Refused(422, change=number, **told(error)) from error
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
        """Run SQL as it is; each statement's answer, at most ROWS_MAX rows of each."""
        with self._connected() as connection:
            wire = connection.pgconn
            wire.send_query(statement.sql.encode())
            # Rows come one by one, so that a large answer is never held.
            wire.set_single_row_mode()
            return list(_answers(wire))

    def _table(self, connection: psycopg.Connection[Any], name: str) -> Table:
        schema, _, table = name.partition(".")
        known = connection.execute(_TABLES, [self._publication]).fetchall()
        if (schema, table) not in {(s, t) for s, t, _ in known}:
            raise Refused(404, message=f"`{name[:200]}` is no captured table")
        quoted = sql.Identifier(schema, table).as_string(connection)
        found = connection.execute(_COLUMNS, [quoted]).fetchall()
        key = sorted((place, column) for column, _, _, _, _, place in found if place >= 0)
        columns = [
            Column(n, t, null, made, filled, at >= 0) for n, t, null, made, filled, at in found
        ]
        return Table(schema, table, tuple(columns), tuple(column for _, column in key))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="headwater-page",
                options=_OPTIONS,
            ) as connection:
                yield connection
        except psycopg.OperationalError as error:
            if error.sqlstate is None:
                raise Refused(503, message="the source database does not answer") from error
            raise Refused(422, **told(error)) from error
        except psycopg.Error as error:
            raise Refused(422, **told(error)) from error


def statement_of(change: Change, table: Table) -> tuple[sql.Composed, Sequence[str | None]]:
    """The statement of a change, and its parameters. Raises: Refused where it names no column."""
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
    # `format_type` quotes what needs quotes. Through text, so that Postgres reads it.
    return sql.SQL("%s::text::") + sql.SQL(kind)


def told(error: psycopg.Error) -> dict[str, Any]:
    """What the database said, in its words."""
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


def _answers(wire: Any) -> Iterator[dict[str, Any]]:
    answer: dict[str, Any] = {}
    failure: Refused | None = None
    while (result := wire.get_result()) is not None:
        status = result.status
        if status == pq.ExecStatus.FATAL_ERROR:
            facts = {name: result.error_field(part) for name, part in _TOLD.items()}
            failure = Refused(422, **{n: v.decode() if v else None for n, v in facts.items()})
        elif status in (pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK):
            if not answer:
                names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
                answer = {"columns": names, "rows": [], "count": 0}
            _take(result, answer)
            if status == pq.ExecStatus.TUPLES_OK:
                yield {**answer, "done": (result.command_status or b"").decode()}
                answer = {}
        elif status == pq.ExecStatus.COMMAND_OK:
            yield {"done": (result.command_status or b"").decode()}
        elif status != pq.ExecStatus.EMPTY_QUERY:
            wire.finish()
            raise Refused(422, message="COPY is not for this box: it has nothing to send or take")
    if failure is not None:
        raise failure


def _take(result: Any, answer: dict[str, Any]) -> None:
    for row in range(result.ntuples):
        answer["count"] += 1
        if answer["count"] <= ROWS_MAX:
            values = [result.get_value(row, column) for column in range(result.nfields)]
            texts = [None if v is None else v.decode(errors="replace") for v in values]
            answer["rows"].append([_cell(text)[0] for text in texts])


def _cell(text: str | None) -> tuple[str | None, bool]:
    if text is None or len(text) <= CELL_CHARS_MAX:
        return text, False
    return text[:CELL_CHARS_MAX] + "…", True

"""Which tables the capture has taken in, kept in the source: rows of the stack's signal table.

A row `taken-<oid>` stands for one table. Its type is `log` while the table's earlier rows are
still to be snapshotted (Debezium writes such a signal into its log, no more), then `done`. The
object identifier tells a table from an earlier one of the same name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from typing_extensions import LiteralString

from app.source.database import Connection
from app.source.tables import Names, SourceTable

_PREFIX = "taken-"
PENDING, DONE = "log", "done"


def record(connection: Connection, names: Names, tables: Iterable[SourceTable], state: str) -> None:
    """Note that these tables are taken in; `state` is PENDING or DONE."""
    for table in tables:
        message = json.dumps({"message": f"taken into the capture: {table}"})
        connection.execute(
            _on(
                names,
                "INSERT INTO {signal} (id, type, data) VALUES (%s, %s, %s)"
                " ON CONFLICT (id) DO UPDATE SET type = excluded.type, data = excluded.data",
            ),
            [f"{_PREFIX}{table.oid}", state, message],
        )


def forget(
    connection: Connection, names: Names, tables: Iterable[SourceTable], reason: str
) -> bool:
    """Take tables out of the publication and of the record, for them to be taken in again.

    Done once for each `reason`, all together; returns whether it was done now.
    """
    with connection.transaction():
        noted = connection.execute(
            _on(names, "INSERT INTO {signal} (id, type) VALUES (%s, %s) ON CONFLICT DO NOTHING"),
            [reason, DONE],
        )
        if noted.rowcount == 0:
            return False
        for table in tables:
            connection.execute(table.unpublish(names.publication))
            key = f"{_PREFIX}{table.oid}"
            connection.execute(_on(names, "DELETE FROM {signal} WHERE id = %s"), [key])
    return True


def forget_all(connection: Connection, names: Names) -> None:
    """Begin anew: the next snapshot is an initial one of everything."""
    connection.execute(_on(names, "DELETE FROM {signal}"))


def states(connection: Connection, names: Names) -> dict[int, str]:
    """Table's object identifier → PENDING or DONE, for each table taken in."""
    rows = connection.execute(
        _on(names, "SELECT id, type FROM {signal} WHERE starts_with(id, %s)"), [_PREFIX]
    )
    return {int(key[len(_PREFIX) :]): state for key, state in rows}


def ask_for_snapshot(
    connection: Connection, names: Names, tables: Sequence[SourceTable], *, kind: str, mark: str
) -> None:
    """Signal Debezium to snapshot these tables.

    Args:
        kind: `incremental` (beside the stream, by key) or `blocking` (the stream waits).
        mark: tells this signal from others; at most 64 characters.
    """
    data: dict[str, Any] = {
        "type": kind,
        "data-collections": [pattern(str(table)) for table in tables],
    }
    # An inherited table's rows alone: the children are captured under their own names. Of a
    # blocking snapshot the condition is the whole statement.
    conditions = [
        {
            "data-collection": pattern(str(table)),
            "filter": own if kind == "blocking" else f"tableoid = {table.oid}",
        }
        for table in tables
        if (own := table.own_rows())
    ]
    if conditions:
        data["additional-conditions"] = conditions
    connection.execute(
        _on(names, "INSERT INTO {signal} (id, type, data) VALUES (%s, 'execute-snapshot', %s)"),
        [mark, json.dumps(data)],
    )


def _on(names: Names, statement: LiteralString) -> sql.Composed:
    return sql.SQL(statement).format(signal=names.signal_table)


def pattern(name: str) -> str:
    """The regular expression, as Debezium takes it in lists, that matches exactly this name."""
    # A comma would end it; letters, digits and _ mean themselves.
    return "".join(c if c.isalnum() or c == "_" else f"\\x{{{ord(c):x}}}" for c in name)

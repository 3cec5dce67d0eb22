"""Records the captured tables in the source, as rows of the stack's signal table.

Each captured table has a row `taken-<oid>`. Its type is `log` while a snapshot of the table's existing
rows is pending (Debezium only writes such a signal into its log), then `done`. The oid
distinguishes a table from a previous one of the same name; the recorded name shows that a table was
renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from typing_extensions import LiteralString

from app.source.database import Connection
from app.source.source_tables import Names, SourceTable

_PREFIX = "taken-"
_TAKEN = "taken into the capture: "
PENDING, DONE = "log", "done"


def record(connection: Connection, names: Names, tables: Iterable[SourceTable], state: str) -> None:
    """Record that these tables are taken in; `state` is PENDING or DONE."""
    for table in tables:
        message = json.dumps({"message": f"{_TAKEN}{table}"})
        connection.execute(
            on_signal_table(
                names,
                "INSERT INTO {signal} (id, type, data) VALUES (%s, %s, %s)"
                " ON CONFLICT (id) DO UPDATE SET type = excluded.type, data = excluded.data",
            ),
            [f"{_PREFIX}{table.oid}", state, message],
        )


def first_time(connection: Connection, names: Names, reason: str) -> bool:
    """Record a reason; return whether it is new since the capture began."""
    noted = connection.execute(
        on_signal_table(
            names, "INSERT INTO {signal} (id, type) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        ),
        [reason, DONE],
    )
    return noted.rowcount > 0


def forget_all(connection: Connection, names: Names) -> None:
    """Delete the record, before a first snapshot of everything."""
    connection.execute(on_signal_table(names, "DELETE FROM {signal}"))


def states(connection: Connection, names: Names) -> dict[int, str]:
    """Return oid → PENDING or DONE for each captured table."""
    rows = connection.execute(
        on_signal_table(names, "SELECT id, type FROM {signal} WHERE starts_with(id, %s)"), [_PREFIX]
    )
    return {int(key[len(_PREFIX) :]): state for key, state in rows}


def names_taken(connection: Connection, names: Names) -> dict[int, str]:
    """Return the last recorded name (`schema.name`) of each captured table, by its oid."""
    rows = connection.execute(
        on_signal_table(names, "SELECT id, data FROM {signal} WHERE starts_with(id, %s)"), [_PREFIX]
    )
    return {
        int(key[len(_PREFIX) :]): json.loads(data)["message"].removeprefix(_TAKEN)
        for key, data in rows
        if data
    }


def ask_for_snapshot(
    connection: Connection, names: Names, tables: Sequence[SourceTable], *, kind: str, mark: str
) -> None:
    """Signal Debezium to snapshot these tables.

    Args:
        kind: `incremental` (beside the stream, by key) or `blocking` (the stream waits).
        mark: the identifier of this signal; at most 64 characters.
    """
    data: dict[str, Any] = {
        "type": kind,
        "data-collections": [pattern(str(table)) for table in tables],
    }
    # Read only a parent table's own rows, because its children are captured under their own names.
    # For a blocking snapshot the condition is the whole statement.
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
        on_signal_table(
            names, "INSERT INTO {signal} (id, type, data) VALUES (%s, 'execute-snapshot', %s)"
        ),
        [mark, json.dumps(data)],
    )


def on_signal_table(names: Names, statement: LiteralString) -> sql.Composed:
    """Fill the name of the signal table into `{signal}` of a statement."""
    return sql.SQL(statement).format(signal=names.signal_table)


def pattern(name: str) -> str:
    """Return the regular expression that matches exactly this name in Debezium's lists."""
    # Debezium ignores case by default, but `Orders` is not `orders`. A comma would end the
    # expression. Letters, digits and _ need no escape.
    return "(?-i)" + "".join(c if c.isalnum() or c == "_" else f"\\x{{{ord(c):x}}}" for c in name)

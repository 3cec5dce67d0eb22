"""For `status`: the tables that are not captured because of a name, theirs or a column's."""

from __future__ import annotations

import psycopg

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.source.database import address_of, connect
from app.source.shared_names import shared_names
from app.source.source_tables import Names, SourceTable, source_tables
from spark_streaming.contract.names import Collision


def left_out_messages(settings: Settings) -> list[str]:
    """Return one line for each table whose name clashes, or whose columns differ in case only.

    Where the source does not answer, the only line says so.
    """
    try:
        with connect(settings.capture_dsn, application="headwater status") as connection:
            role = address_of(settings.capture_dsn).user
            tables = source_tables(connection, role, Names.of(settings).publication)
    except (HeadwaterError, psycopg.Error) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [f"which tables are left out is not known: {first}"]
    # A table that is captured already halts the connector: leaving it out would lose changes.
    columns = [
        f"{table} {'halts the capture' if table.published else 'is left out'}: {reason}"
        for table in tables
        if table.twins and (reason := table.uncapturable())
    ]
    return columns + [
        f"{table} {_stands(table, found)}: it {found.reason}"
        for table, found in shared_names(tables).items()
    ]


def _stands(table: SourceTable, found: Collision) -> str:
    return "is not merged" if table.published and not found.in_kafka else "is left out"

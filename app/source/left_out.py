"""The tables that the capture leaves out, for the names of their columns: what `status` tells."""

from __future__ import annotations

import psycopg

from app.errors import HeadwaterError
from app.settings import Settings
from app.source.database import address_of, connect
from app.source.tables import Names, source_tables


def left_out_told(settings: Settings) -> list[str]:
    """One line for each table with columns whose names differ in case only; empty without any.

    A source that does not answer is said to be so in a line of its own.
    """
    try:
        with connect(settings.capture_dsn, application="headwater status") as connection:
            role = address_of(settings.capture_dsn).user
            tables = source_tables(connection, role, Names.of(settings).publication)
    except (HeadwaterError, psycopg.Error) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [f"which tables are left out is not known: {first}"]
    # A captured one is not left out: its changes would be lost, so the connector stops at it.
    return [
        f"{table} {'halts the capture' if table.published else 'is left out'}: {reason}"
        for table in tables
        if table.twins and (reason := table.uncapturable())
    ]

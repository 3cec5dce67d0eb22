"""One edit, and how long it takes until Trino answers with it."""

from __future__ import annotations

import time
import uuid
from typing import Any

from sqlalchemy import Engine, text

PROBE_ID = -1  # loads use rows from 1 on, so they never change or delete the probe's row
LIMIT_S = 60.0
POLL_S = 0.1


def probe(engine: Engine, trino: Any, table: str) -> float:
    """Seconds from the commit of one change of `table` until Trino answers with it."""
    value = uuid.uuid4().hex
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO {table} (id, v, note, updated_at) OVERRIDING SYSTEM VALUE "
                "VALUES (:id, 0, :note, now()) "
                "ON CONFLICT (id) DO UPDATE SET note = excluded.note, updated_at = now()"
            ),
            {"id": PROBE_ID, "note": value},
        )
    committed = time.monotonic()
    statement = f"SELECT 1 FROM silver.{table} WHERE id = {PROBE_ID} AND note = '{value}'"
    while time.monotonic() - committed < LIMIT_S:
        cursor = trino.cursor()
        cursor.execute(statement)
        if cursor.fetchall():
            return time.monotonic() - committed
        time.sleep(POLL_S)
    raise AssertionError(f"a change of {table} was not in Trino within {LIMIT_S} s")

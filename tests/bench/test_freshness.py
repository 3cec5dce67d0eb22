"""Freshness: from the commit in Postgres to the row in a Trino answer, under a steady load.

One probe runs at a time: it updates its own row in one of the loaded tables, commits, and queries Trino
until the value is there. The result includes the query that finds it. Results count only if
all loaded tables equal the source's.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text

from app.query.trino_connection import connect
from app.store.workload.load_tables import BenchWorkload
from tests.support.measure import percentiles, report, watched
from tests.support.stack import Stack

PROBES = 60
PROBE_LIMIT_S = 60.0
ROWS = 2_000
PROBE_ID = -1  # the load uses rows from 1 on, so it never changes or deletes the probe's row
POLL_S = 0.1
# A fresh stack is slower by half, because five JVMs compile their code on the same two cores.
WARM_UP_S = 120.0


@pytest.mark.parametrize("tables", [1, 8])
@pytest.mark.parametrize("rate", [5, 50, 500])
def test_freshness_from_commit_to_a_trino_answer(stack: Stack, tables: int, rate: int) -> None:
    engine = create_engine(
        stack.settings.source_dsn.replace("postgresql://", "postgresql+psycopg://")
    )
    load = BenchWorkload(engine, tables=tables, rate=rate, rows=ROWS)
    load.create()
    names = [table.name for table in load.tables]
    stack.await_tables(*names)
    stack.verify(*names)
    stop = threading.Event()
    runner = threading.Thread(target=load.run, kwargs={"stop": stop}, daemon=True)
    runner.start()
    seconds: list[float] = []
    try:
        with closing(connect(stack.settings.trino_url)) as trino:
            warm_up(engine, trino, names)
            with watched(stack) as resources:
                began = time.monotonic()
                for number in range(PROBES):
                    seconds.append(probe(engine, trino, names[number % tables]))
                lasted = time.monotonic() - began
        stack.verify(*names)
    finally:
        stop.set()
        runner.join(timeout=30)
        engine.dispose()
    figures = {"tables": tables, "changes_per_s": rate, "seconds": percentiles(seconds)}
    report(
        f"freshness_{tables}x{rate}",
        figures
        | {
            "lasted_s": round(lasted, 1),
            "changes_per_cpu_s": round(rate * lasted / max(sum(resources.cpu_s.values()), 0.1), 1),
            **resources.as_dict(),
        },
    )


def warm_up(engine, trino, names: list[str]) -> None:  # type: ignore[no-untyped-def]
    """Probe under the load until five JVMs have compiled their code; the results are discarded."""
    deadline = time.monotonic() + WARM_UP_S
    for number in itertools.count():
        probe(engine, trino, names[number % len(names)])
        if time.monotonic() >= deadline:
            return


def probe(engine, trino, table: str) -> float:  # type: ignore[no-untyped-def]
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
    while time.monotonic() - committed < PROBE_LIMIT_S:
        cursor = trino.cursor()
        cursor.execute(statement)
        if cursor.fetchall():
            return time.monotonic() - committed
        time.sleep(POLL_S)
    raise AssertionError(f"a change of {table} was not in Trino within {PROBE_LIMIT_S} s")

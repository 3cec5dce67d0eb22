"""A first snapshot whose reader dies: what it read and is gone by the next try is not in silver."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import psycopg
import pytest

from app.lake.lakehouse import Lakehouse
from tests.support.events import events
from tests.support.stack import UP_TIMEOUT_S, Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 240.0
ROWS = 1_000
READ, EMPTIED, HELD = "a_read", "b_emptied", "z_held"  # snapshots go by name


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        yield stack


def test_rows_deleted_between_two_tries_of_the_first_snapshot_are_not_in_silver(
    stack: Stack,
) -> None:
    dsn = stack.settings.source_dsn
    with stack.source() as source:
        for table in (READ, EMPTIED, HELD):
            source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
            source.execute(f"INSERT INTO {table} SELECT i, 'x' FROM generate_series(1, {ROWS}) i")
            source.execute(f"ANALYZE {table}")
    # Publishes the tables, which it could not do once one is held.
    stack.run("preflight", "--source", dsn, "--apply", expect=None)
    with stack.source() as source:
        # Made by the connector it would wait for the transaction that holds the table.
        source.execute("SELECT pg_create_logical_replication_slot('headwater', 'pgoutput')")
    with psycopg.connect(dsn) as holder:
        holder.execute(f"LOCK TABLE {HELD} IN ACCESS EXCLUSIVE MODE")
        told = stack.run("up", "--only", "silver", timeout_s=UP_TIMEOUT_S).stderr
        assert f"public.{HELD}: waits for its turn, about {ROWS:,} rows" in told
        assert "watch it: ./headwater status" in told
        lake = Lakehouse(stack.settings)
        until(
            lambda: [len(events(stack, f"public.{table}")) for table in (READ, EMPTIED)],
            # The newest row waits in the connector for one behind it, to tell the last by.
            lambda counts: counts[0] == ROWS and counts[1] >= ROWS - 1,
            within_s=WITHIN_S,
            what="the rows that the first try reads",
            every_s=1,
        )
        until(
            lambda: lake.ledger()[READ],
            lambda entry: sum(entry.offsets[f"hw.public.{READ}"].values()) >= ROWS,
            within_s=WITHIN_S,
            what="those rows in silver",
            every_s=1,
        )
        shown = stack.run("status").stdout.split("first snapshot: ")[1]
        assert f"public.{READ} " not in shown  # whole, as far as anybody can say
        assert re.search(rf"^public\.{HELD} +waiting +0 +{ROWS} ", shown, re.MULTILINE)
        with stack.source() as source:
            source.execute(f"DELETE FROM {READ} WHERE id <= 400")
            source.execute(f"DELETE FROM {EMPTIED}")
            source.execute(f"UPDATE {READ} SET word = 'y' WHERE id > 900")
        os.kill(stack.status()["connect"]["pid"], signal.SIGKILL)
    stack.up("--only", "capture", "silver")
    [verdict] = stack.verify(READ)
    assert (verdict["verdict"], int(verdict["rows"])) == ("equal", ROWS - 400)
    until(
        lambda: stack.run("logs", "capture").stdout + stack.run("logs", "capture").stderr,
        lambda text: (
            "the initial snapshot was interrupted: it began 2 times" in text
            and f"public.{EMPTIED}" in text  # nothing is sent of it
        ),
        within_s=WITHIN_S,
        what="the guard's word about the interrupted snapshot",
        every_s=1,
    )

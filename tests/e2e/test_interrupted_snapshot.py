"""The reader of a first snapshot dies: the snapshot goes on table by table, and rows deleted since are not in silver."""

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
READ, EMPTIED, HELD = "a_read", "b_emptied", "z_held"  # snapshots read tables in the order of names


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        yield stack


@pytest.mark.slow
def test_a_first_snapshot_that_was_cut_goes_on_by_table_and_keeps_no_row_that_went_meanwhile(
    stack: Stack,
) -> None:
    dsn = stack.settings.source_dsn
    with stack.source() as source:
        for table in (READ, EMPTIED, HELD):
            source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
            source.execute(f"INSERT INTO {table} SELECT i, 'x' FROM generate_series(1, {ROWS}) i")
            source.execute(f"ANALYZE {table}")
    # Publishes the tables, which is impossible once one of them is locked.
    stack.run("preflight", "--source", dsn, "--apply", expect=None)
    with stack.source() as source:
        # The connector's own would wait for the transaction that locks the table.
        source.execute("SELECT pg_create_logical_replication_slot('headwater', 'pgoutput')")
    with psycopg.connect(dsn) as holder:
        holder.execute(f"LOCK TABLE {HELD} IN ACCESS EXCLUSIVE MODE")
        told = stack.run("up", "--only", "silver", timeout_s=UP_TIMEOUT_S).stderr
        assert f"public.{HELD}: waits for its turn, about {ROWS:,} rows" in told
        assert "watch it: ./headwater status" in told
        lake = Lakehouse(stack.settings)
        until(
            lambda: [len(events(stack, f"public.{table}")) for table in (READ, EMPTIED)],
            # The newest row waits in the connector for the next one, to know whether it is the last.
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
        assert f"public.{READ} " not in shown  # complete, as far as `status` can tell
        assert re.search(rf"^public\.{HELD} +waiting +0 +{ROWS} ", shown, re.MULTILINE)
        with stack.source() as source:
            source.execute(f"DELETE FROM {READ} WHERE id <= 400")
            source.execute(f"DELETE FROM {EMPTIED}")
            source.execute(f"UPDATE {READ} SET word = 'y' WHERE id > 900")
        os.kill(stack.status()["connect"]["pid"], signal.SIGKILL)
        stack.up("--only", "capture", "silver")
        # The last table is still locked, but the others are read and stay read.
        until(
            lambda: {
                table: lake.silver(table).to_pyarrow_table(columns=["id"]).num_rows
                for table in (READ, EMPTIED)
            },
            lambda rows: rows == {READ: ROWS - 400, EMPTIED: 0},
            within_s=WITHIN_S,
            what="what the source has of the tables that were read before",
            every_s=1,
        )
        said = stack.run("logs", "capture")
        assert "the first snapshot continues table by table" in said.stdout + said.stderr
    until(
        lambda: stack.run("verify", READ, EMPTIED, HELD, expect=None).returncode,
        lambda code: code == 0,
        within_s=WITHIN_S,
        what="all tables equal",
        every_s=1,
    )

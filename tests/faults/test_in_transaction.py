"""Connect is killed within large transactions: each event is in bronze once, and silver equals the source.

A poll of the connector may end between records of one log position; see debezium/README.md.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count

import psycopg
import pytest

from app.connectors.capture_record import DONE, states
from app.source.source_tables import Names
from tests.support.connectors import Connectors
from tests.support.cut_transactions import TABLES, Progress, begin, beside, counted, write
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

KILLS = int(os.environ.get("HEADWATER_FAULT_KILLS") or 30)
ROWS = int(os.environ.get("HEADWATER_FAULT_ROWS") or 1_000_000)
KINDS = ("keys", "pages", "large", "all")
SERVICES = ("postgres", "kafka", "s3", "connect", "store", "connectors", "capture", "silver")
RECOVERY_S = 300.0
RESTARTS = 0.25  # the share of restarts of only the task, as `capture` does for each new table


@pytest.fixture(scope="module")
def carried() -> Iterator[Stack]:
    """A stack without the services that only read: Trino, the page, metrics."""
    with fresh_stack() as fresh:
        fresh.up("--only", *SERVICES)
        yield fresh


@pytest.mark.timeout(3 * 3600)
def test_silver_equals_the_source_after_connect_was_killed_within_large_transactions(
    carried: Stack, seed: int
) -> None:
    cut_transactions(carried, seed, kills=KILLS, rows=ROWS)


def cut_transactions(stack: Stack, seed: int, *, kills: int, rows: int) -> None:
    """Run this many transactions, each with a SIGKILL or a restart of the task in it; then verify."""
    rng = random.Random(seed)
    with stack.source() as source:
        begin(source, rows)
        await_captured(stack, source)
        cut = 0
        with other_sessions(stack):
            for number in range(1, kills + 1):
                kind = KINDS[number % len(KINDS)]
                cut += cut_one(stack, rng, kind, number, rows // kills)
        await_delivered(stack, source)
    print(f"{kills} kills, {cut} of them within the transaction")
    assert cut > kills // 3
    verdicts = stack.verify(*TABLES, timeout_s=1800)
    assert [row["verdict"] for row in verdicts] == ["equal"] * len(TABLES), verdicts
    print(f"rows compared: {sum(int(row['rows']) for row in verdicts)}")
    assert_counts(stack)


def cut_one(stack: Stack, rng: random.Random, kind: str, number: int, rows: int) -> bool:
    """Write one transaction and kill Connect or its task meanwhile; returns whether it was still being streamed."""
    with closing(Progress(stack.settings)) as progress:
        before = progress.places()
        with psycopg.connect(stack.settings.source_dsn, autocommit=True) as source:
            written = write(source, kind, number, rows)
        wanted = rng.uniform(0, 0.6) * written.rows
        until(
            lambda: progress.places() - before,
            lambda places: places > wanted,
            within_s=RECOVERY_S,
            what=f"{wanted:.0f} events of a transaction of {written.rows} rows",
            every_s=0.02,
        )
        how = "restart" if rng.random() < RESTARTS else "SIGKILL"
        if how == "restart":
            Connectors(stack.settings.connect_url).restart_task("source")
        else:
            stack.kill("connect", ready=False, within_s=RECOVERY_S)
        there, cut = progress.places() - before, not progress.has_ended(written.xid)
        print(f"{number}: {how}, {kind}: {there} places of {written.rows} rows, cut: {cut}")
        until(
            lambda: progress.has_ended(written.xid),
            within_s=RECOVERY_S,
            what=f"the END of transaction {written.xid}",
            every_s=0.5,
        )
    return cut


def await_captured(stack: Stack, source: psycopg.Connection[tuple[object, ...]]) -> None:
    """Wait until the tables are published and their first rows snapshotted, so that later rows are streamed."""
    oids = source.execute("SELECT oid FROM pg_class WHERE relname = ANY(%s)", [list(TABLES)])
    wanted = {int(str(oid)) for (oid,) in oids.fetchall()}
    assert len(wanted) == len(TABLES)
    until(
        lambda: {o: s for o, s in states(source, Names.of(stack.settings)).items() if o in wanted},
        lambda found: set(found) == wanted and set(found.values()) == {DONE},
        within_s=RECOVERY_S,
        what="the tables taken into the capture",
        every_s=0.5,
    )


def await_delivered(stack: Stack, source: psycopg.Connection[tuple[object, ...]]) -> None:
    """Wait until the slot has released everything that is committed now, which Kafka then has."""
    row = source.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    until(
        lambda: source.execute(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
            " WHERE confirmed_flush_lsn >= %s::pg_lsn",
            row,
        ).fetchall(),
        within_s=RECOVERY_S * 2,
        what=f"the slot at {row[0]}",
        every_s=0.5,
    )


@contextmanager
def other_sessions(stack: Stack) -> Iterator[None]:
    """Commit between the events of the large transactions, so that log positions interleave."""
    numbers = count(1)
    with psycopg.connect(stack.settings.source_dsn, autocommit=True) as connection:

        def one() -> None:
            connection.execute("INSERT INTO cut_other VALUES (%s, 'beside')", [-next(numbers)])

        with beside(one):
            yield


def assert_counts(stack: Stack) -> None:
    """Check that bronze has as many events of each transaction and table as its END record counts."""
    until(
        lambda: counted(stack.settings),
        lambda found: found[0] == found[1],
        within_s=RECOVERY_S,
        what="the events in bronze that the END records count",
        every_s=5,
    )
    said, _, lines = counted(stack.settings)
    print(f"{lines} events of {len(said)} transactions in bronze, as END says")

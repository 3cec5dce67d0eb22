"""After a lost slot or a restored server, silver equals the source again. Meanwhile rows are written, changed
and deleted, keys and definitions change, and some tables have no key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app.connectors.stream.stream_state import BROKEN, read_state
from app.lake.lakehouse import Lakehouse
from spark_streaming.ops.incident_rows import Incident
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.servers import copied
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WITHIN_S = 300.0
ROWS = 3000
TABLES = ("kept", "loose", "widened")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    profile = tmp_path_factory.mktemp("recover") / "profile.toml"
    profile.write_text("auto_recover = false\ntopic_partitions = 2\n")
    with fresh_stack() as stack:
        stack.up("--profile", str(profile), "--only", "postgres")
        with stack.source() as source:
            for table in TABLES:
                key = "" if table == "loose" else "PRIMARY KEY"
                source.execute(f"CREATE TABLE {table} (id int {key}, n int, big text)")
                source.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
                source.execute(
                    f"INSERT INTO {table} SELECT i, i % 7, md5(i::text) "
                    f"FROM generate_series(1, {ROWS}) i"
                )
        up(stack)
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        yield stack


def up(stack: Stack) -> None:
    stack.up("--only", "capture", "silver")


def gaps(stack: Stack) -> list[Incident]:
    log = IncidentLog(Lakehouse(stack.settings).lake)
    log.refresh()
    return log.incidents(kind="gap")


def write(source: psycopg.Connection[Any], chance: random.Random, steps: int) -> None:
    """Make random changes: insert, update and delete rows, change keys, insert and delete copies."""
    for _ in range(steps):
        low = chance.randrange(ROWS)
        among = f"id BETWEEN {low} AND {low + chance.randrange(1, 60)}"
        table = chance.choice(TABLES)
        kind = chance.choice(("new", "update", "delete", "key"))
        if kind == "new":
            start = chance.randrange(10**6, 10**9)
            source.execute(
                f"INSERT INTO {table} (id, n, big) "
                f"SELECT i, 1, repeat('new', 900) FROM generate_series({start}, {start + 20}) i"
            )
        elif kind == "update":
            source.execute(f"UPDATE {table} SET n = n + 1, big = big || '!' WHERE {among}")
        elif kind == "delete":
            source.execute(f"DELETE FROM {table} WHERE {among}")
        else:
            shift = chance.randrange(10**4, 10**6) * 2000
            source.execute(f"UPDATE {table} SET id = id + {shift} WHERE {among}")


def await_broken(stack: Stack, kind: str) -> None:
    until(
        lambda: read_state(stack.settings),
        lambda seen: (seen.state, seen.kind) == (BROKEN, kind),
        within_s=10,
        what=f"the guard finds {kind}",
    )
    row = stack.status()["capture"]
    assert row["state"] == "broken" and "headwater recover" in row["last_error"]


def recovered(stack: Stack, chance: random.Random, count: int) -> Incident:
    """Recover during writes to the source. Returns: the incident, which the last resync has closed."""
    stack.run("recover", "--apply", timeout_s=300)
    with stack.source() as source:
        write(source, chance, 30)
    closed = until(
        lambda: gaps(stack),
        lambda found: len(found) == count and not found[-1].open,
        within_s=WITHIN_S,
        what="the incident is closed",
        every_s=1,
    )[-1]
    assert closed.lsn_from is not None and closed.lsn_to is not None
    assert closed.lsn_from < closed.lsn_to
    assert closed.how_closed and "were read again" in closed.how_closed
    with stack.source() as source:
        write(source, chance, 30)
    assert stack.status()["capture"]["state"] == "ready"
    return closed


def test_after_a_lost_slot_silver_equals_the_source_and_the_gap_is_on_record(
    stack: Stack, seed: int
) -> None:
    chance = random.Random(seed)
    with stack.source() as source:
        write(source, chance, 20)
        source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            "WHERE active_pid IS NOT NULL"
        )
        until(
            lambda: source.execute("SELECT pg_drop_replication_slot('headwater')").fetchall(),
            within_s=WITHIN_S,
            what="the slot dropped",
        )
        write(source, chance, 60)
        source.execute("ALTER TABLE widened ADD COLUMN late text DEFAULT 'late'")
        write(source, chance, 10)
    await_broken(stack, "slot_gone")
    closed = recovered(stack, chance, count=1)
    assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
    stack.run("down", timeout_s=300)
    up(stack)
    assert [(one.id, one.open) for one in gaps(stack)] == [(closed.id, False)]


@pytest.mark.slow
def test_after_a_restored_backup_silver_equals_the_restored_source(stack: Stack, seed: int) -> None:
    chance = random.Random(seed)
    cluster = stack.home / "data" / "postgres" / "cluster"
    stack.run("down", timeout_s=300)
    copied(cluster, cluster.with_name("backup"))
    up(stack)
    with stack.source() as source:
        write(source, chance, 60)
        source.execute("ALTER TABLE widened ADD COLUMN undone int DEFAULT 7")
        write(source, chance, 10)
    assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
    stack.run("down", timeout_s=300)
    cluster.rename(cluster.with_name("other"))
    cluster.with_name("backup").rename(cluster)
    up(stack)
    await_broken(stack, "source_set_back")
    with stack.source() as source:
        write(source, chance, 20)
    recovered(stack, chance, count=2)
    assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
    for table in TABLES:
        stack.run("rebuild", table, timeout_s=300)
    assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")

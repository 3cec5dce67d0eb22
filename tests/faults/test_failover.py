"""The source fails over to a standby, complete or behind, or is replaced by another server. Each is
found within ten seconds, and `recover` makes silver equal to the current server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from app.connectors.stream.stream_state import BROKEN, read_state
from app.lake.lakehouse import Lakehouse
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.postgres_server import DATABASE, Programs, Server, new_server, postgres_programs
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

FOUND_S = 10.0
WITHIN_S = 300.0
TABLES = ("kept", "loose")
ROWS = 2000


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with postgres_programs(15) as found:
        yield found


@contextmanager
def captured(programs: Programs, tmp: str) -> Iterator[tuple[Stack, Server]]:
    """A stack on an external server, with silver equal to it."""
    primary = new_server(programs, tmp)
    with closing_server(primary), fresh_stack() as stack:
        profile = programs.home / f"{tmp}.toml"
        profile.write_text("auto_recover = false\n")
        write_tables(primary)
        stack.up(
            "--source", primary.dsn(DATABASE), "--apply", "--profile", str(profile),
            "--only", "capture", "silver",
        )  # fmt: skip
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        yield stack, primary


@contextmanager
def closing_server(server: Server) -> Iterator[None]:
    try:
        yield
    finally:
        server.stop()


def write_tables(server: Server) -> None:
    with closing(psycopg.connect(server.dsn(DATABASE), autocommit=True)) as source:
        for table, key in (("kept", "PRIMARY KEY"), ("loose", "")):
            source.execute(f"CREATE TABLE {table} (id int {key}, n int)".encode())
            source.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL".encode())
            source.execute(
                f"INSERT INTO {table} SELECT i, 0 FROM generate_series(1, {ROWS}) i".encode()
            )


def write(server: Server, step: int) -> None:
    """Insert, update and delete rows in each table."""
    with closing(psycopg.connect(server.dsn(DATABASE), autocommit=True)) as source:
        for table in TABLES:
            for statement in (
                f"INSERT INTO {table} SELECT {step} * 10000 + i, {step} FROM generate_series(1, 50) i",
                f"UPDATE {table} SET n = {step} WHERE id % 17 = {step}",
                f"DELETE FROM {table} WHERE id % 101 = {step}",
            ):
                source.execute(statement.encode())


def await_followed(primary: Server, standby: Server) -> None:
    """Wait until the standby has replayed everything of the primary."""
    with closing(psycopg.connect(primary.dsn(), autocommit=True)) as source:
        row = source.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    with closing(psycopg.connect(standby.dsn(), autocommit=True)) as source:
        until(
            lambda: source.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone(),
            lambda found: found == (True,),
            within_s=WITHIN_S,
            what="the standby at the primary's position",
        )


def take_over(primary: Server, standby: Server) -> None:
    """Stop the primary; promote the standby, which then answers at the primary's address."""
    primary.stop()
    with closing(psycopg.connect(standby.dsn(), autocommit=True)) as source:
        assert source.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)
    standby.stop()
    standby.port = primary.port
    standby.start()


def await_broken(stack: Stack, kind: str) -> None:
    until(
        lambda: read_state(stack.settings),
        lambda seen: (seen.state, seen.kind) == (BROKEN, kind),
        within_s=FOUND_S,
        what=f"the guard finds {kind}",
    )
    row = stack.status()["capture"]
    assert row["state"] == "broken" and "headwater recover" in row["last_error"]


def assert_recovered(stack: Stack, source: Server, kind: str) -> None:
    """Check that `recover` closes the gap and records it, during writes to the source."""
    write(source, 5)
    stack.run("recover", "--apply", timeout_s=WITHIN_S)
    write(source, 6)
    log = IncidentLog(Lakehouse(stack.settings).lake)

    def closed() -> bool:
        log.refresh()
        found = log.incidents(kind="gap")
        return len(found) == 1 and not found[0].open and found[0].cause.startswith(kind)

    until(closed, within_s=WITHIN_S, what=f"the incident {kind} is closed", every_s=1)
    write(source, 7)
    assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
    assert stack.status()["capture"]["state"] == "ready"


def test_a_promoted_standby_that_has_everything_is_recovered_without_its_slot(
    programs: Programs,
) -> None:
    with captured(programs, "complete") as (stack, primary):
        standby = primary.standby("complete_standby")
        with closing_server(standby):
            write(primary, 1)
            assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
            await_followed(primary, standby)
            take_over(primary, standby)
            await_broken(stack, "slot_gone")
            assert_recovered(stack, standby, "slot_gone")


def test_a_promoted_standby_that_lacks_captured_rows_takes_them_out_of_silver(
    programs: Programs,
) -> None:
    with captured(programs, "behind") as (stack, primary):
        standby = primary.standby("behind_standby")
        with closing_server(standby):
            write(primary, 1)
            await_followed(primary, standby)
            with closing(psycopg.connect(standby.dsn(), autocommit=True)) as source:
                source.execute("ALTER SYSTEM SET primary_conninfo = ''")
                source.execute("SELECT pg_reload_conf()")
                until(
                    lambda: source.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone(),
                    lambda found: found == (0,),
                    within_s=WITHIN_S,
                    what="the standby alone",
                )
            write(primary, 2)  # which the standby never gets
            assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
            take_over(primary, standby)
            await_broken(stack, "source_branched")
            assert_recovered(stack, standby, "source_branched")


def test_another_server_at_the_address_is_recovered_into_the_same_lake(programs: Programs) -> None:
    with captured(programs, "first") as (stack, primary):
        write(primary, 1)
        assert stack.verdicts(*TABLES) == dict.fromkeys(TABLES, "equal")
        other = new_server(programs, "second")
        with closing_server(other):
            write_tables(other)
            write(other, 3)
            primary.stop()
            other.stop()
            with_password_of(primary, other)
            other.start()
            row = until(
                lambda: stack.status().get("source", {}),
                lambda row: "password authentication failed" in row.get("last_error", ""),
                within_s=WITHIN_S,
                what="`status` says that the new server lacks the capture's role",
            )
            assert "preflight --apply" in row["hint"]
            stack.run("preflight", "--apply", expect=None)
            await_broken(stack, "source_other")
            assert_recovered(stack, other, "source_other")


def with_password_of(primary: Server, other: Server) -> None:
    """Give the other server the address of the first: its superuser's password, then its port."""
    other.start()
    with closing(psycopg.connect(other.dsn(), autocommit=True)) as source:
        source.execute(f"ALTER ROLE owner PASSWORD '{primary.password}'".encode())
    other.stop()
    other.password, other.port = primary.password, primary.port

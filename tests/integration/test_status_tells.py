"""`status` shows each failure with its cause, and services recover by themselves; with real Kafka, Connect and store."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql

from app.source.database import address_of
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

COMES_S = 90  # the connector waits between its tries
SOON_S = 240.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as fresh:
        fresh.up("--only", "capture")
        yield fresh


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a service's processes by a signal; at the end continue those that still live."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            if one.is_running():
                one.send_signal(signal.SIGCONT)


def told(stack: Stack) -> dict[str, dict[str, Any]]:
    """The rows of `status` by part: services, and other problems."""
    return stack.status()


def await_state(stack: Stack, part: str, *states: str | None) -> dict[str, Any]:
    """Wait until `status` shows this state of the part (None: no row). Returns: its row, empty if there is none."""
    return until(
        lambda: told(stack).get(part, {}),
        lambda row: row.get("state") in states,
        within_s=SOON_S,
        what=f"`status` shows {part} as {' or '.join(map(str, states))}",
        every_s=0.5,
    )


def test_nothing_but_services_is_told_where_all_is_well(stack: Stack) -> None:
    services = set(stack.urls())
    until(
        lambda: [name for name in told(stack) if " " in name],
        lambda found: found == [],
        within_s=SOON_S,
        what="no connector, table or slot in `status`",
    )
    assert "kafka" in services
    assert "not well: nothing" in stack.run("status").stdout


def test_a_connector_that_cannot_log_in_is_shown_with_its_cause_until_it_works(
    stack: Stack,
) -> None:
    role = sql.Identifier(address_of(stack.settings.capture_dsn).user)
    with stack.source() as source:
        source.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
        try:
            source.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
            )
            # Which of the two comes first is a race, because a restarted task fails at once.
            await_state(stack, "connector source", "retrying", "failed")
            # The first cause is the broken connection; later retries fail because of the role.
            row = until(
                lambda: told(stack)["connector source"],
                lambda row: "not permitted to log in" in row["last_error"],
                within_s=COMES_S,
                what="the cause of the newest try",
            )
            assert "headwater logs connect" in row["hint"]
            shown = stack.run("status").stdout
            assert re.search("connector source: (retrying|failed): .*\n +hint: ", shown), shown
        finally:
            source.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role))
    await_state(stack, "connector source", None)


def test_a_table_that_cannot_be_captured_is_told_with_the_statement_that_repairs_it(
    stack: Stack,
) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE bag (n int)")
        source.execute("CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY)")
        row = await_state(stack, "table public.bag", "not captured")
        assert "no primary key" in row["last_error"]
        row_scratch = await_state(stack, "table public.scratch", "left out")
        assert "unlogged" in row_scratch["last_error"]
        source.execute(row["hint"].encode())
        await_state(stack, "table public.bag", None)
        source.execute("DROP TABLE bag, scratch")
    await_state(stack, "table public.scratch", None)


def test_a_slot_that_nobody_reads_is_told_while_the_connector_is_stopped(stack: Stack) -> None:
    worker = stack.settings.connect_url.rstrip("/")
    import requests

    requests.put(f"{worker}/connectors/source/stop", timeout=30).raise_for_status()
    try:
        row = await_state(stack, "connector source", "stopped")
        assert "logs capture" in row["hint"]
        slot = await_state(stack, f"slot {stack.settings.profile.slot_name}", "not read")
        assert "nobody reads it" in slot["last_error"]
    finally:
        requests.put(f"{worker}/connectors/source/resume", timeout=30).raise_for_status()
    await_state(stack, f"slot {stack.settings.profile.slot_name}", None)


@pytest.mark.slow
def test_capture_killed_while_connect_hangs_comes_back_and_so_does_connect(stack: Stack) -> None:
    connect, capture = stack.observed("connect"), stack.observed("capture")
    assert connect.pid is not None and capture.pid is not None
    with stopped(connect.pid):
        row = await_state(stack, "connect", "unresponsive")
        assert "SIGSTOP" in row["last_error"] and "started again" in row["hint"]
        os.kill(capture.pid, signal.SIGKILL)
        # No signal continues it: the supervisor restarts it.
        for service, before in (("connect", connect.pid), ("capture", capture.pid)):
            until(
                lambda service=service: stack.observed(service),  # type: ignore[misc]
                lambda seen, before=before: seen.state == "ready" and seen.pid != before,  # type: ignore[misc]
                within_s=SOON_S,
                what=f"{service} is ready again in another process",
            )
    with stack.source() as source:
        source.execute("CREATE TABLE afterwards (id int PRIMARY KEY)")
        until(
            lambda: published(source, "afterwards"),
            within_s=SOON_S,
            what="a new table is captured again",
        )
        source.execute("DROP TABLE afterwards")


def published(source: psycopg.Connection[tuple[Any, ...]], table: str) -> bool:
    query = "SELECT FROM pg_publication_tables WHERE tablename = %s"
    return bool(source.execute(query, [table]).fetchall())


def test_parts_that_are_asked_in_their_own_protocol_stay_ready(stack: Stack) -> None:
    rows = told(stack)
    assert {rows[name]["state"] for name in ("kafka", "postgres")} == {"ready"}
    assert {rows[name]["last_error"] for name in ("kafka", "postgres")} == {""}

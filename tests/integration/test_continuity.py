"""A slot that was dropped, made again or lost, and another server: never gone on with in silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.connectors import Connectors
from tests.support.events import events
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SERVICES = ("postgres", "kafka", "s3", "connect", "store", "connectors", "capture")
WITHIN_S = 180.0
DROP = "SELECT pg_drop_replication_slot('headwater')"
MAKE = "SELECT pg_create_logical_replication_slot('headwater', 'pgoutput')"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with fresh_stack() as stack:
        stack.up("--only", *SERVICES)
        # Before that the connector would begin its first snapshot again, with a new slot.
        until(
            lambda: events(stack, "headwater.heartbeat"),
            lambda beats: any(beat["op"] != "r" for beat in beats),
            within_s=WITHIN_S,
            what="an event of the stream",
        )
        yield stack


def refusal(stack: Stack) -> str:
    """What a start says that is refused, with the words of the service that refused it."""
    ended = stack.run("up", "--only", *SERVICES, timeout_s=300, expect=1)
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_slot_that_is_dropped_while_the_stack_runs_stops_the_capture(stack: Stack) -> None:
    connectors = Connectors(stack.settings.connect_url)
    with stack.source() as source:
        source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            "WHERE active_pid IS NOT NULL"
        )
        until(lambda: source.execute(DROP).fetchall(), within_s=WITHIN_S, what="the slot dropped")
        source.execute("INSERT INTO genres VALUES (9998, 'Written meanwhile')")
        until(
            lambda: stack.run("logs", "capture").stdout + stack.run("logs", "capture").stderr,
            lambda text: "the replication slot `headwater` is gone from the source" in text,
            within_s=WITHIN_S,
            what="the guard's word about the slot",
            every_s=1,
        )
        until(
            lambda: connectors.shown("source"),
            lambda text: '"state":"STOPPED"' in text,
            within_s=WITHIN_S,
            what="the source's connector stopped",
        )
        assert source.execute("SELECT FROM pg_replication_slots").fetchall() == []


def test_a_start_without_the_slot_is_refused(stack: Stack) -> None:
    text = refusal(stack)
    assert "the replication slot `headwater` is gone from the source" in text
    assert "hint: start again with an empty lake" in text


def test_a_start_on_a_slot_that_was_made_again_is_refused(stack: Stack) -> None:
    with stack.source() as source:
        source.execute(MAKE)
    assert "it was dropped and made again, or moved on" in refusal(stack)
    with stack.source() as source:
        slot = source.execute("SELECT active FROM pg_replication_slots").fetchall()
    assert slot == [(False,)]  # nobody reads it


def test_a_start_on_a_slot_whose_wal_is_gone_is_refused(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        source.execute("SELECT pg_reload_conf()")

        def status() -> str:
            source.execute("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000))")
            source.execute("SELECT pg_switch_wal()")
            source.execute("CHECKPOINT")
            [row] = source.execute("SELECT wal_status FROM pg_replication_slots").fetchall()
            return str(row[0])

        until(status, lambda now: now == "lost", within_s=WITHIN_S, what="the slot's WAL removed")
    text = refusal(stack)
    assert "lost" in text
    assert "SELECT pg_drop_replication_slot('headwater');" in text


def test_a_start_on_another_server_at_the_same_address_is_refused(stack: Stack) -> None:
    stack.run("down", timeout_s=180)
    shutil.rmtree(stack.home / "data" / "postgres")  # the next start makes a new cluster
    text = refusal(stack)
    assert "another database server than the one that was captured" in text
    assert "hint: give the captured server's address" in text

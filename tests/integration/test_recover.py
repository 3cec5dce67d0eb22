"""A slot is dropped, made again or lost, or a server is restored, promoted or replaced: this is found
within ten seconds, no wrong data flows, and `recover` repairs the stream.

Only the capture runs here: Postgres, Kafka, Connect, the store. `tests/e2e/test_recover.py` checks that
silver equals the source afterwards.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.capture.resync import progress
from app.connectors.stream.stream_state import BROKEN, FLOWS, StreamState, read_state
from app.lake.lakehouse import Lakehouse
from app.source.source_tables import Names
from spark_streaming.ops.incident_rows import Incident
from spark_streaming.ops.incident_table import IncidentLog
from tests.support.connectors import Connectors
from tests.support.events import events
from tests.support.servers import copied
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SERVICES = ("postgres", "kafka", "s3", "connect", "store", "connectors", "capture")
WITHIN_S = 180.0
FOUND_S = 10.0
KILLS = 5
DROP = "SELECT pg_drop_replication_slot('headwater')"
MAKE = "SELECT pg_create_logical_replication_slot('headwater', 'pgoutput')"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    profile = tmp_path_factory.mktemp("recover") / "profile.toml"
    profile.write_text("auto_recover = false\n")
    with fresh_stack() as stack:
        stack.up("--profile", str(profile), "--only", *SERVICES)
        # Earlier, the connector would begin its first snapshot again, with a new slot.
        await_stream(stack)
        yield stack


def await_stream(stack: Stack) -> None:
    """Wait until a row that is committed now has arrived through the stream."""
    with stack.source() as source:
        [row] = source.execute(
            "INSERT INTO genres SELECT max(genre_id) + 1, 'Seen ' || max(genre_id) FROM genres "
            "RETURNING genre_id"
        ).fetchall()
    until(
        lambda: [e for e in events(stack, "public.genres") if e["op"] == "c"],
        lambda found: any(e["after"]["genre_id"] == row[0] for e in found),
        within_s=WITHIN_S,
        what=f"genre {row[0]} in its topic",
        every_s=1,
    )


def await_broken(stack: Stack, kind: str, within_s: float = FOUND_S) -> StreamState:
    """Wait until the guard reports a broken stream and its connector is stopped."""
    found = until(
        lambda: read_state(stack.settings),
        lambda seen: (seen.state, seen.kind) == (BROKEN, kind),
        within_s=within_s,
        what=f"the guard finds {kind}",
        every_s=0.2,
    )
    connectors = Connectors(stack.settings.connect_url)
    until(
        lambda: connectors.shown("source"),
        lambda text: '"state":"STOPPED"' in text,
        within_s=WITHIN_S,
        what="the source's connector stopped",
    )
    assert stack.observed("capture").state == "ready"
    return found


def incidents(stack: Stack) -> list[Incident]:
    log = IncidentLog(Lakehouse(stack.settings).lake)
    log.refresh()
    return log.incidents(kind="gap")


def plan(stack: Stack) -> dict[str, Any]:
    """The output of `recover` without `--apply`, which changes nothing."""
    with stack.source() as source:
        before = source.execute(
            "SELECT slot_name, restart_lsn FROM pg_replication_slots"
        ).fetchall()
        said = stack.run("recover", "--format", "json", expect=1)
        assert (
            source.execute("SELECT slot_name, restart_lsn FROM pg_replication_slots").fetchall()
            == before
        )
    assert "Traceback" not in said.stderr and "recover --apply" in said.stderr
    return dict(json.loads(said.stdout))


def recover(stack: Stack, *, locked_session: int) -> Incident:
    """Recover the stream, and check the state afterwards; `opened`: the number of incidents by then."""
    stack.run("recover", "--apply", timeout_s=300)
    assert read_state(stack.settings).state == FLOWS
    await_stream(stack)
    found = incidents(stack)
    assert len(found) == locked_session, found
    newest = found[-1]
    assert newest.lsn_from is not None and newest.lsn_to is not None
    assert newest.lsn_from < newest.lsn_to
    with stack.source() as source:
        asked = progress(source, Names())
        captured = source.execute(
            "SELECT schemaname || '.' || tablename FROM pg_publication_tables "
            "WHERE pubname = 'headwater' AND schemaname <> 'headwater'"
        ).fetchall()
    assert {str(one) for one in asked if newest.id in one.incidents} == {t for (t,) in captured}
    assert set(newest.tables) == {t for (t,) in captured}
    assert stack.run("recover").returncode == 0, "there is nothing left to do"
    return newest


def positions(stack: Stack) -> list[int]:
    """Of streamed changes only: rows of a resync have no positions of their own."""
    found = [e for e in events(stack, "public.genres") if e["op"] in ("c", "u", "d")]
    return [int(event["source"]["lsn"]) for event in found]


def test_a_slot_that_is_dropped_while_the_stack_runs_is_found_and_recovered(stack: Stack) -> None:
    with stack.source() as source:
        source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
            "WHERE active_pid IS NOT NULL"
        )
        until(lambda: source.execute(DROP).fetchall(), within_s=WITHIN_S, what="the slot dropped")
        source.execute("INSERT INTO genres VALUES (9998, 'Written meanwhile')")
    await_broken(stack, "slot_gone")
    [locked_session] = until(
        lambda: incidents(stack), within_s=WITHIN_S, what="the incident in the lake"
    )
    assert locked_session.open and locked_session.cause.startswith("slot_gone")
    said = plan(stack)
    assert (said["kind"], said["log_bytes_to_write"]) == ("slot_gone", 0)
    closed = recover(stack, locked_session=1)
    assert closed.id == locked_session.id


def test_a_slot_that_is_made_again_is_found_at_a_start_and_the_stack_starts_all_the_same(
    stack: Stack,
) -> None:
    stack.run("down", timeout_s=180)
    stack.up("--only", "postgres")
    with stack.source() as source:
        source.execute(DROP)
        source.execute("INSERT INTO genres VALUES (9997, 'Written meanwhile, too')")
        source.execute(MAKE)
    said = stack.run("up", "--only", *SERVICES, timeout_s=300)
    assert "it was dropped and made again, or advanced" in said.stderr
    await_broken(stack, "slot_remade")
    with stack.source() as source:
        slots = source.execute("SELECT active FROM pg_replication_slots").fetchall()
    assert slots == [(False,)]  # not in use
    until(
        lambda: len(incidents(stack)),
        lambda count: count == 2,
        within_s=WITHIN_S,
        what="the new incident beside the first, which outlives the restart",
    )
    recover(stack, locked_session=2)


def test_a_slot_whose_wal_is_gone_is_found_and_recovered(stack: Stack) -> None:
    Connectors(stack.settings.connect_url).stop("source")
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
        await_broken(stack, "slot_lost")
        source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        source.execute("SELECT pg_reload_conf()")
    recover(stack, locked_session=3)


def test_a_recovery_that_is_killed_anywhere_is_done_by_the_next(stack: Stack, seed: int) -> None:
    chance = random.Random(seed)
    Connectors(stack.settings.connect_url).stop("source")
    with stack.source() as source:
        until(lambda: source.execute(DROP).fetchall(), within_s=WITHIN_S, what="the slot dropped")
    await_broken(stack, "slot_gone")
    for _ in range(KILLS):
        process = stack.start("recover", "--apply")
        try:
            process.wait(chance.uniform(1.5, 9))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    stack.run("recover", "--apply", timeout_s=300, expect=0)
    until(
        lambda: read_state(stack.settings).state,
        lambda state: state == FLOWS,
        within_s=FOUND_S,
        what="the guard sees the stream go on",
    )
    await_stream(stack)
    found = incidents(stack)
    assert all(one.lsn_to is not None for one in found), found


def test_a_server_that_was_restored_is_found_and_captured_past_what_was(stack: Stack) -> None:
    cluster = stack.home / "data" / "postgres" / "cluster"
    stack.run("down", timeout_s=180)
    backup = cluster.with_name("backup")
    copied(cluster, backup)
    stack.up("--only", *SERVICES)
    await_stream(stack)  # captured, but not in the backup
    with stack.source() as source:
        source.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 30000000))")
    await_stream(stack)
    highest = max(positions(stack))
    stack.run("down", timeout_s=180)
    shutil.rmtree(cluster)
    backup.rename(cluster)
    before = len(incidents_of_a_stopped(stack))
    said = stack.run("up", "--only", *SERVICES, timeout_s=300)
    assert "the capture stands still" in said.stderr
    await_broken(stack, "source_set_back")
    assert max(positions(stack)) == highest, "nothing of the other history flows"
    said_plan = plan(stack)
    assert said_plan["kind"] == "source_set_back" and said_plan["log_bytes_to_write"] > 20_000_000
    newest = recover(stack, locked_session=before + 1)
    assert newest.lsn_to is not None and newest.lsn_to > highest
    later = [lsn for lsn in positions(stack) if lsn > highest]
    assert later and min(later) >= newest.lsn_to


def incidents_of_a_stopped(stack: Stack) -> list[Incident]:
    stack.up("--only", "s3")
    return incidents(stack)


def test_what_is_recovered_by_itself_needs_nobody(stack: Stack, tmp_path: Path) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text("auto_recover = true\n")
    stack.run("down", timeout_s=180)
    stack.up("--profile", str(profile), "--only", *SERVICES)
    before = len(incidents(stack))
    Connectors(stack.settings.connect_url).stop("source")
    began = time.time()
    with stack.source() as source:
        until(lambda: source.execute(DROP).fetchall(), within_s=WITHIN_S, what="the slot dropped")
    until(
        lambda: (read_state(stack.settings), len(incidents(stack))),
        lambda seen: seen[0].state == FLOWS and seen[0].since > began and seen[1] > before,
        within_s=WITHIN_S,
        what="the stream goes on by itself",
    )
    await_stream(stack)

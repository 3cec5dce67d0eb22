"""The compose file in use: the stack is healthy, fresh and equal, also after a kill of each container
and after an upgrade of the same volumes."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.containers.project import COMPOSE, CORE, ONESHOTS, PATIENCE_S, Containers, is_healthy
from tests.support import tpcb
from tests.support.waiting import until

BRANCHES, ACCOUNTS = 2, 2_000
PAUSE_S = 0.05  # a steady load: the tests check for losses and do not measure throughput
CORE_MB_MAX = 5 * 1024

pytestmark = pytest.mark.timeout(3_600)  # the first test's start builds the images


def test_every_container_is_healthy_and_every_oneshot_completed(containers: Containers) -> None:
    assert [name for name in CORE if not is_healthy(containers.state(name))] == []
    assert [containers.state(name)["ExitCode"] for name in ONESHOTS] == [0, 0, 0]


def test_an_edit_reaches_trino(containers: Containers) -> None:
    edit_and_await(containers, "seen from afar")
    edit_and_await(containers, "and again")


def test_silver_equals_the_source(containers: Containers) -> None:
    verdicts = containers.verify(timeout_s=PATIENCE_S)
    assert verdicts and {row["verdict"] for row in verdicts} == {"equal"}


def test_what_is_published_can_be_reached_and_nothing_off_loopback(containers: Containers) -> None:
    for name in CORE:
        for bindings in containers.inspect(name)["NetworkSettings"]["Ports"].values():
            assert {binding["HostIp"] for binding in bindings or []} <= {"127.0.0.1"}
    assert containers.query("SELECT 1") == [(1,)]


def test_no_container_runs_as_root_or_without_its_limit(containers: Containers) -> None:
    for name in CORE:
        found = containers.inspect(name)
        limit = int(COMPOSE[name]["mem_limit"].removesuffix("m")) * 1024 * 1024
        assert found["HostConfig"]["Memory"] == limit
        assert containers.docker("exec", found["Id"], "id", "-u").strip() != "0"


def test_no_secret_shows_in_what_the_daemon_tells(containers: Containers) -> None:
    password = containers.settings.secret("postgres_password")
    for name in [*CORE, *ONESHOTS]:
        assert password not in containers.docker("inspect", containers.container(name))


def test_silver_equals_the_source_after_each_container_was_killed_under_load(
    containers: Containers, seed: int
) -> None:
    dsn = containers.settings.source_dsn
    tpcb.create(dsn, branches=BRANCHES, accounts=ACCOUNTS)
    with containers.source() as source:
        source.execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
    containers.await_tables("pgbench_accounts", within_s=PATIENCE_S)
    order = random.Random(seed).sample(CORE, len(CORE))
    load = tpcb.running(
        dsn,
        clients=1,
        branches=BRANCHES,
        accounts=ACCOUNTS,
        seed=seed,
        reconnect_s=PATIENCE_S,
        pause_s=PAUSE_S,
    )
    with load as counts:
        for name in order:
            before = sum(counts)
            until(
                lambda before=before: sum(counts) > before,  # type: ignore[misc]
                within_s=PATIENCE_S,
                what=f"a transaction before {name} is killed",
            )
            kill(containers, name)
        print(f"{sum(counts)} transactions meanwhile")
    verdicts = containers.verify(*tpcb.TABLES, timeout_s=PATIENCE_S)
    assert [row["verdict"] for row in verdicts] == ["equal"] * len(tpcb.TABLES)


def test_the_profile_keeps_to_its_memory_and_nothing_was_ended_for_it(
    containers: Containers,
) -> None:
    used = containers.memory_mb(CORE)
    print(f"memory in use, MB: {used}, in all {sum(used.values()):.0f}")
    assert sum(used.values()) <= CORE_MB_MAX
    assert {name: containers.oom_kills(name) for name in CORE} == dict.fromkeys(CORE, 0)


def test_a_new_version_goes_on_with_the_volumes_of_the_one_before(containers: Containers) -> None:
    edit_and_await(containers, "before the stop")
    before = {name: containers.inspect(name)["Image"] for name in ("capture", "silver", "trino")}
    containers.down()
    containers.take_a_new_version()
    # It also starts everything that the next file needs, because a start takes minutes.
    containers.up("--profile", "full")
    after = {name: containers.inspect(name)["Image"] for name in before}
    assert {name: after[name] == before[name] for name in before} == {
        "capture": False,
        "silver": False,
        "trino": True,
    }
    assert containers.query("SELECT title FROM movies WHERE movie_id = 1") == [("before the stop",)]
    edit_and_await(containers, "after the start")
    verdicts = containers.verify(timeout_s=PATIENCE_S)
    assert {*tpcb.TABLES, "movies"} <= {row["table"] for row in verdicts}
    assert {row["verdict"] for row in verdicts} == {"equal"}


def edit_and_await(containers: Containers, title: str) -> None:
    """Change one movie's title and wait until Trino answers with it."""
    with containers.source() as source:
        source.execute("UPDATE movies SET title = %s WHERE movie_id = 1", [title])
    committed = time.monotonic()
    until(
        lambda: containers.query("SELECT title FROM movies WHERE movie_id = 1"),
        lambda rows: rows == [(title,)],
        within_s=PATIENCE_S,
        what="the new title in Trino",
    )
    print(f"an edit was in Trino after {time.monotonic() - committed:.1f} s")


def kill(containers: Containers, name: str) -> None:
    """SIGKILL a container's first process, and wait until Docker has it healthy again."""
    before = containers.state(name)["Pid"]
    killed = time.monotonic()
    os.kill(before, signal.SIGKILL)
    until(
        lambda: containers.state(name),
        lambda one: is_healthy(one) and one["Pid"] != before,
        within_s=PATIENCE_S,
        what=f"{name} healthy again",
        every_s=1.0,
    )
    print(f"{name} was killed, and healthy again after {time.monotonic() - killed:.0f} s")

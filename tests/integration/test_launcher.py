"""The launcher with real servers: the commands that a user types, from start to wipe."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.stack import Stack, fresh_stack, processes_of
from tests.support.waiting import until

READY_S = 120.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The object store and Postgres (as an unprivileged user if the tests run as root)."""
    with fresh_stack() as fresh:
        fresh.up("--only", "s3", "postgres")
        yield fresh


def row(stack: Stack, service: str) -> dict[str, Any]:
    return stack.status()[service]


def test_status_tells_what_runs_and_what_it_takes(stack: Stack) -> None:
    store = row(stack, "s3")
    assert (store["state"], store["port"]) == ("ready", str(stack.settings.ports.number("s3")))
    assert store["memory_mb"] > 20
    assert row(stack, "kafka")["state"] == "stopped"


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = {name: row(stack, name)["pid"] for name in ("s3", "postgres")}
    stack.up("--only", "s3", "postgres")
    assert {name: row(stack, name)["pid"] for name in before} == before


@pytest.mark.parametrize("service", ["s3", "postgres"])
def test_a_killed_server_comes_back_by_itself(stack: Stack, service: str) -> None:
    before = row(stack, service)
    os.kill(before["pid"], signal.SIGKILL)
    after = until(
        lambda: row(stack, service),
        lambda seen: seen["state"] == "ready" and seen["pid"] != before["pid"],
        within_s=READY_S,
        what=f"{service} is ready again",
    )
    assert after["restarts"] == before["restarts"] + 1
    assert after["last_error"] == f"service `{service}` ended"


def test_the_embedded_source_keeps_its_rows_over_down_and_up(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    stack.run("down")
    assert processes_of(stack.home) == []
    stack.up("--only", "s3", "postgres")
    with stack.source() as source:
        assert source.execute("SELECT seven FROM kept").fetchall() == [(7,)]


def test_logs_and_urls_are_data_on_stdout(stack: Stack) -> None:
    assert "database system is ready" in stack.run("logs", "postgres", "-n", "200").stdout
    urls = stack.urls()
    assert urls["s3"] == stack.settings.store.endpoint


def test_a_taken_port_ends_up_within_seconds_and_leaves_the_rest_running(stack: Stack) -> None:
    with socket.socket() as other:
        # A closed connection of another test's service may still be in TIME_WAIT here.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", stack.settings.ports.number("trino")))
        other.listen()
        ended = stack.run("up", "--only", "trino", timeout_s=60, expect=1)
    assert f"{stack.settings.ports.number('trino')} (trino) is held by" in ended.stderr
    assert f"pid {os.getpid()}" in ended.stderr
    assert "hint: " in ended.stderr
    assert row(stack, "s3")["state"] == "ready"


def test_a_killed_supervisor_takes_all_along_and_up_repairs(stack: Stack) -> None:
    stack.kill_supervisor()
    assert row(stack, "postgres")["state"] == "stopped"
    stack.up("--only", "s3", "postgres")
    assert row(stack, "postgres")["state"] == "ready"

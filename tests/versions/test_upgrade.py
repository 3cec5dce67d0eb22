"""This version takes over the home of the first release in place, also after an interrupted `up`.

The first release comes from git's history and runs unchanged in this environment, because all its locked
packages are in today's lock. A shallow clone lacks that history, so the tests are skipped.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.environment.stamp import STAMP_FILE, current, read_stamp
from app.launcher.state import Home, Observed
from tests.support.stack import ROOT, Stack, fresh_stack
from tests.support.waiting import until

# "Changelog of the main job": the first complete version.
FIRST_RELEASE = "ca9b153b230f8d5ceb73221b21cc75b14668e0ad"
PARTS = ("tables", "silver", "capture")
UP_S = 600

pytestmark = pytest.mark.timeout(1_800)


class Old:
    """The first release's command line in a stack's home."""

    def __init__(self, code: Path, stack: Stack) -> None:
        self._code = code
        self._environment = {**stack.environment, "PYTHONPATH": str(code)}

    def run(self, *arguments: str, expect: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=self._code,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=UP_S,
        )
        assert ended.returncode == expect, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = subprocess.run(
        ["git", "archive", "--format=tar", FIRST_RELEASE], cwd=ROOT, capture_output=True, timeout=60
    )
    if made.returncode:
        pytest.skip(f"this clone has no history back to {FIRST_RELEASE}")
    folder = tmp_path_factory.mktemp("first")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def stack(code: Path) -> Iterator[Stack]:
    """A home of the first release with edited rows, whose stack still runs."""
    with fresh_stack() as stack:
        old = Old(code, stack)
        old.run("up", "--only", *PARTS)
        with stack.source() as source:
            source.execute("UPDATE movies SET title = title || ' (old)' WHERE movie_id <= 10")
            source.execute("DELETE FROM ratings WHERE movie_id <= 5")
        old.run("verify")
        yield stack  # `down` is this version's, because the first release lacks some settings


def test_it_is_to_be_stopped_before_it_is_upgraded(stack: Stack) -> None:
    ended = stack.run("up", "--only", *PARTS, expect=1)
    assert "this stack runs under an older Headwater" in ended.stderr
    assert not (stack.home / STAMP_FILE).exists()
    stack.run("down")  # this version stops the services that the old one has started


def test_an_upgrade_that_is_killed_goes_on_at_the_next_up(stack: Stack) -> None:
    """Send SIGKILL to the command and the supervisor as soon as the home has this version."""
    with stack.start("up", "--only", *PARTS) as command:
        until(
            lambda: Home(stack.home).snapshot().services.get("kafka", Observed()).pid,
            lambda pid: pid is not None and (stack.home / STAMP_FILE).exists(),
            within_s=UP_S,
            what="the upgrade has begun",
        )
        command.kill()
        command.communicate()
    os.kill(stack.supervisor_pid, signal.SIGKILL)
    assert read_stamp(stack.home) == current()
    stack.run("up", "--only", *PARTS, timeout_s=UP_S)


def test_silver_of_the_old_home_equals_the_source(stack: Stack) -> None:
    assert {row["verdict"] for row in stack.verify()} == {"equal"}
    assert stack.query("SELECT count(*) FROM silver.movies WHERE title LIKE '% (old)'") == [(10,)]


def test_rows_edited_after_the_upgrade_arrive(stack: Stack) -> None:
    with stack.source() as source:
        source.execute("UPDATE movies SET title = title || ' (new)' WHERE movie_id <= 20")
        source.execute("ALTER TABLE movies ADD COLUMN since_the_upgrade int DEFAULT 7")
        source.execute("UPDATE movies SET since_the_upgrade = 8 WHERE movie_id <= 2")
    edited = "SELECT count(*) FROM silver.movies WHERE title LIKE '% (new)'"
    until(lambda: stack.query(edited), lambda rows: rows == [(20,)], within_s=120, what="edits")
    assert {row["verdict"] for row in stack.verify()} == {"equal"}


def test_bronze_of_both_versions_is_whole(stack: Stack) -> None:
    stack.run("verify", "--bronze", timeout_s=300)


def test_a_table_is_made_again_from_bronze_of_both_versions(stack: Stack) -> None:
    stack.run("rebuild", "movies", timeout_s=UP_S)
    assert {row["verdict"] for row in stack.verify()} == {"equal"}

"""`down` on a full disk and with a hanging supervisor; state files on a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.environment.settings import write_private
from app.launcher import start_checks as checks
from app.launcher import supervisor_requests
from app.launcher.state import Home, Observed, Snapshot, Wanted
from app.processes.process import boot_id, start_time
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.tiny_services import READY_LOG, Clone, wait_until

pytestmark = pytest.mark.unhurried  # each starts processes

# Holds the lock like a supervisor, and hangs.
HUNG = """
import signal, sys, time
from pathlib import Path
from app.launcher.state import Home
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with Home(Path(sys.argv[1])).supervising():
    print("supervises", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def small_home(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    monkeypatch.setattr(checks, "DISK_FREE_MIN_BYTES", 0)
    with small_disk(clone.home, 4 << 20) as disk:
        yield disk
        clone.down()


def test_down_stops_a_stack_whose_disk_is_full(clone: Clone, small_home: SmallDisk) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.describe("second", ready=READY_LOG, depends_on='{ first = "healthy" }')
    clone.up()
    state = clone.stack().home.state_file.read_text()
    small_home.fill()
    assert clone.down() is True
    assert clone.ends.read_text().split() == ["second", "first"]
    assert clone.processes() == []
    assert any("disk is full" in line for line in clone.notes.lines)
    # No file is incomplete: each is unchanged or gone.
    home = clone.stack().home
    assert not home.state_file.exists() or json.loads(home.state_file.read_text()) != state
    assert not [path.name for path in clone.home.iterdir() if ".json." in path.name]
    assert clone.down() is False
    small_home.free()
    clone.up()
    assert clone.seen("second").state == "ready"


def test_a_service_that_dies_on_a_full_disk_comes_back_when_there_is_room(
    clone: Clone, small_home: SmallDisk
) -> None:
    clone.describe("first", ready=READY_LOG, files='{ "served.txt" = "first.py" }')
    clone.up()
    pid = clone.seen("first").pid
    assert pid is not None
    small_home.fill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: start_time(pid) is None, "the service has ended")
    small_home.free()
    wait_until(lambda: clone.seen("first").pid not in (pid, None), "it is started again")
    wait_until(lambda: clone.seen("first").state == "ready", "it runs again")


def test_down_continues_a_stopped_supervisor_and_ends_in_order(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    supervisor = clone.stack().home.supervisor()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)
    started = time.monotonic()
    assert clone.down() is True
    assert time.monotonic() - started < 10
    assert clone.ends.read_text().split() == ["first"]
    assert not any("killing it" in line for line in clone.notes.lines)


def test_down_kills_a_supervisor_that_hangs_within_its_limit(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_requests, "HUNG_S", 1.0)
    clone.describe("first", ready=READY_LOG)
    hung = subprocess.Popen(
        [sys.executable, "-c", HUNG, str(clone.home)], stdout=subprocess.PIPE, text=True
    )
    assert hung.stdout is not None
    try:
        assert hung.stdout.readline() == "supervises\n"
        wait_until(lambda: clone.stack().home.silent_s() > 1.0, "it is seen to hang")
        started = time.monotonic()
        assert clone.down() is True
        assert time.monotonic() - started < 10
        assert hung.wait(5) == -signal.SIGKILL
    finally:
        hung.kill()
        hung.wait()
        hung.stdout.close()


def test_a_supervisor_that_goes_on_is_never_silent(clone: Clone) -> None:
    clone.describe("first", ready=READY_LOG)
    clone.up()
    home = clone.stack().home
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        assert home.silent_s() < 1.5
    # A supervisor of an earlier version writes no such file, so it is not considered hung.
    (clone.home / "supervisor.alive").rename(clone.home / "away")
    assert home.silent_s() < 1.5


def test_state_files_stay_whole_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 1 << 20) as disk:
        home = Home(disk.folder)
        home.save_wanted(Wanted(3, ["first"]))
        home.save_snapshot(Snapshot(boot_id(), 3, {"first": Observed("ready")}))
        disk.fill()
        many = [f"service-{number}" for number in range(5_000)]
        with pytest.raises(OSError, match="No space left"):
            home.save_wanted(Wanted(4, many))
        with pytest.raises(OSError, match="No space left"):
            write_private(home.state_file, "x" * 100_000)
        assert home.wanted() == Wanted(3, ["first"])
        assert home.snapshot().services["first"].state == "ready"
        assert sorted(path.name for path in disk.folder.iterdir()) == [
            "filler", "state.json", "wanted.json",
        ]  # fmt: skip
        home.forget_snapshot()
        assert home.snapshot().services == {}

"""Stale files, log rotation, folders for unprivileged users, and hints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.artefacts.lazy import LazyArtefacts
from app.environment.settings import load
from app.launcher.host import RealHost
from app.launcher.leftovers import remove_stale_pid_file
from app.processes import log_files as logs
from app.processes.identity import Shelter, can_enter
from app.processes.process import CHILD, Identity
from app.services.service import Service

NOBODY = Identity(65_534, 65_534)


def pid_file(folder: Path, pid: int, *, age_s: float) -> Path:
    path = folder / "server.pid"
    path.write_text(f"{pid}\n/data\n")
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def test_a_pid_file_older_than_the_process_it_names_is_removed(tmp_path: Path) -> None:
    path = pid_file(tmp_path, os.getpid(), age_s=1_000_000)
    assert remove_stale_pid_file(path) is True
    assert not path.exists()


def test_a_pid_file_of_a_living_server_stays(tmp_path: Path) -> None:
    path = pid_file(tmp_path, os.getpid(), age_s=0)
    assert remove_stale_pid_file(path) is False
    assert path.exists()


def test_a_pid_file_of_a_dead_process_is_left_to_its_server(tmp_path: Path) -> None:
    path = pid_file(tmp_path, 2**22 + 5, age_s=1_000_000)
    assert remove_stale_pid_file(path) is False
    assert path.exists()


@pytest.mark.parametrize("text", ["", "not a number"])
def test_a_pid_file_that_cannot_be_read_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.pid"
    path.write_text(text)
    assert remove_stale_pid_file(path) is False
    assert remove_stale_pid_file(tmp_path / "none") is False


def test_a_tail_begins_at_its_start_and_survives_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "stderr.log"
    path.write_text("old\nnew 1\nnew 2\n\n")
    assert logs.tail(path, 5, since=4) == ["new 1", "new 2"]
    assert logs.tail(path, 1) == ["new 2"]
    assert logs.tail(path, 5, since=10_000) == ["old", "new 1", "new 2"]
    assert logs.tail(tmp_path / "none", 5) == []


def test_a_folder_under_a_closed_one_cannot_be_entered_by_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    assert not can_enter(closed / "inner", NOBODY)
    assert can_enter(Path("/usr/bin"), NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")
def test_a_closed_home_gets_a_shelter_that_its_user_reaches(tmp_path: Path) -> None:
    base = Path("/var/tmp") / f"headwater-test-{os.getpid()}"
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    programs = home / "dist-1"
    programs.mkdir()
    (programs / "server").write_text("#!")
    shelter = Shelter(home, NOBODY, base)
    try:
        real = shelter.place(home / "data" / "pg", "data")
        assert real == (home / "data" / "pg").resolve()
        assert can_enter(real, NOBODY)
        assert real.stat().st_uid == NOBODY.uid
        assert shelter.place(home / "data" / "pg", "data") == real
        copy = shelter.copy(programs)
        assert can_enter(copy, NOBODY)
        assert (copy / "server").read_text() == "#!"
        assert shelter.copy(programs) == copy
    finally:
        for path in sorted(base.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        base.rmdir()


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (
            "postgres: error while loading shared libraries: libicu.so.70: cannot open",
            "install the system package that provides libicu.so.70, then run it again",
        ),
        ("java.net.BindException: Address already in use", "ss -ltnp"),
        ("java.lang.OutOfMemoryError: Java heap space", "free some memory"),
        ("write: No space left on device", "free some disk space"),
        ("what?", "read the log: `./headwater logs lamp`"),
    ],
)
def test_a_death_gets_the_hint_that_fits_its_last_words(
    tmp_path: Path, output: str, hint: str
) -> None:
    host = RealHost(load(tmp_path), LazyArtefacts(tmp_path), root=tmp_path)
    lamp = Service(name="lamp", folder=tmp_path, description="", command=["lamp"])
    assert hint in host.hint(lamp, output)
    host.close()


# Code with which root drops its rights, after all imports, because `nobody` cannot enter root's folders.
BECOME_NOBODY = """
import ctypes, os, shutil, signal, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
exec(sys.argv.pop(1))
"""


def test_a_process_that_may_not_change_its_user_says_so() -> None:
    child = CHILD.read_text()
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BECOME_NOBODY, child, "0", "0", "0", "true"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 127
    assert ended.stderr.startswith("cannot become user 0: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_process_runs_as_the_unprivileged_user_without_roots_groups(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(CHILD), "0", "65534", "65534", "id"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.stdout.startswith("uid=65534")
    assert "(root)" not in ended.stdout

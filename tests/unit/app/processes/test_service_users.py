"""A service's own user cannot make root write or truncate a file of its choice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import HeadwaterError
from app.launcher.state import Home
from app.processes import log_files as logs
from app.processes.identity import Shelter, give_files
from app.processes.log_pump import LogFile
from app.processes.process import Identity

NOBODY = Identity(65_534, 65_534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has services of other users")


def as_nobody(statement: str) -> int:
    """Run a Python statement as nobody; its exit code."""
    program = f"import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); {statement}"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, timeout=30, check=False
    )
    return ended.returncode


@pytest.fixture
def shelter(tmp_path: Path) -> Iterator[Shelter]:
    base = Path("/var/tmp") / f"headwater-test-{os.getpid()}"
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    try:
        yield Shelter(home, NOBODY, base)
    finally:
        subprocess.run(["rm", "-rf", str(base)], check=True)


@as_root
def test_a_services_user_can_put_no_link_where_root_writes(
    shelter: Shelter, tmp_path: Path
) -> None:
    run = shelter.place(tmp_path / "home" / "run" / "pg", "run", ours=True)
    (run / "rendered.conf").write_text("mine")
    (run / "rendered.conf").chmod(0o600)
    give_files([run / "rendered.conf"], NOBODY)
    assert as_nobody(f"open({str(run / 'rendered.conf')!r}).read()") == 0
    assert as_nobody(f"os.symlink('/etc/passwd', {str(run / 'stderr.log')!r})") == 1
    assert as_nobody(f"os.unlink({str(run / 'rendered.conf')!r})") == 1


@as_root
def test_links_in_a_run_folder_that_was_given_away_are_removed(
    shelter: Shelter, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("root's")
    inside = tmp_path / "home" / "run" / "pg"
    run = shelter.place(inside, "run")  # like in an earlier version
    (run / "stderr.log").symlink_to(precious)
    os.link(precious, run / "stdout.log")
    (run / "kept.log").write_text("lines")
    assert shelter.place(inside, "run", ours=True) == run
    assert [path.name for path in run.iterdir()] == ["kept.log"]
    assert (precious.read_text(), run.stat().st_uid) == ("root's", 0)


def test_a_log_is_not_opened_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("a" * 100)
    link = tmp_path / "stderr.log"
    link.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        logs.open_log(link)
    with pytest.raises(OSError, match="symbolic link"):
        LogFile(link)
    assert precious.read_text() == "a" * 100


def test_a_home_that_others_could_read_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    Home(home).make()
    assert home.stat().st_mode & 0o066 == 0


@as_root
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, *NOBODY)
    with pytest.raises(HeadwaterError, match="belongs to another user"):
        Home(home).make()

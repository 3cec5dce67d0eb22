"""`.ci/programs`: its messages and actions if programs of the tests are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / ".ci" / "programs"
TOOLS = ("bash", "id", "cut", "sort", "timeout", "rm", "chmod", "cat")
POLICY = Path("/usr/sbin/policy-rc.d")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for PATH with the shell's tools, and none of the programs that the tests need."""
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    return tmp_path


def program(path: Path, name: str, text: str) -> None:
    (path / name).unlink(missing_ok=True)
    (path / name).write_text(f"#!/bin/sh\n{text}\n")
    (path / name).chmod(0o755)


def run(path: Path) -> str:
    """The script's output; it must succeed."""
    ended = subprocess.run(
        [str(SCRIPT)],
        env={"PATH": str(path), "HOME": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    return ended.stderr


def test_who_is_not_root_is_told_what_is_skipped_and_nothing_is_installed(path: Path) -> None:
    program(path, "id", "echo 1000")
    program(path, "apt-get", "echo called >&2; exit 1")
    said = run(path)
    assert "nothing is installed" in said and "called" not in said
    for name in ("chromium", "prometheus", "promtool", "prometheus-alertmanager", "amtool"):
        assert f"(no `{name}`;" in said


def test_a_machine_with_every_program_hears_nothing(path: Path) -> None:
    for name in ("chromium", "openssl", "prometheus", "promtool", "prometheus-alertmanager", "amtool", "mariadbd", "my_print_defaults", "zsh", "fish", "fake-gcs-server"):  # fmt: skip
        program(path, name, "exit 0")
    assert run(path) == ""


def test_the_emulator_of_google_is_built_where_go_is_and_named_as_skipped_elsewhere(
    path: Path,
) -> None:
    program(path, "id", "echo 1000")
    assert "skipped: Google Cloud Storage as the store (no `fake-gcs-server`" in run(path)
    program(path, "go", f'test "$GOBIN" = {path}/go/bin && echo "$*" >&2')
    said = run(path)
    assert "install github.com/fsouza/fake-gcs-server@v" in said
    assert "skipped: Google" not in said
    program(path, "go", "exit 1")
    assert "fake-gcs-server@v1.56.1` failed" in run(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_a_failed_installation_is_reported_and_leaves_services_as_they_start(path: Path) -> None:
    before = POLICY.exists()
    program(path, "apt-get", f"test -x {POLICY} && echo asked: $* >&2; exit 100")
    program(path, "chromium", "exit 0")
    said = run(path)
    if "ID=debian" not in Path("/etc/os-release").read_text().splitlines():
        assert "nothing is installed" in said
        return
    assert said.count("asked: ") == 2, "each call of apt-get finds the program that starts nothing"
    names = "fish mariadb-client-core mariadb-server-core openssl prometheus prometheus-alertmanager zsh"
    assert f"apt-get failed to install {names}" in said
    assert "skipped: checks of the alert rules" in said and "in a browser" not in said
    assert POLICY.exists() == before

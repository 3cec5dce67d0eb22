"""The Docker daemon of the tests: the machine's own, or one that is started for the tests and ended after them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import until

START_S = 90
STOP_S = 90


@contextmanager
def engine(work: Path) -> Iterator[dict[str, str]]:
    """The environment with which `docker` reaches a daemon.

    A daemon that answers is used. If none does, root with `dockerd` on the path gets one with
    its data below `work`; otherwise the test is skipped, and the reason says what is missing.
    """
    if not _works(["docker", "compose", "version"]):
        pytest.skip("`docker compose` is not here: install Docker and its compose plugin")
    if _works(["docker", "info"]):
        yield {}
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("no Docker daemon answers, and none can be started here")
    with _daemon(work) as address:
        yield {"DOCKER_HOST": address}


@contextmanager
def _daemon(work: Path) -> Iterator[str]:
    work.mkdir(parents=True, exist_ok=True)
    address = f"unix://{work / 'socket'}"
    command = [
        "dockerd", f"--host={address}", f"--data-root={work / 'data'}",
        f"--exec-root={work / 'run'}", f"--pidfile={work / 'pid'}",
    ]  # fmt: skip
    with open(work / "dockerd.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until(
            lambda: _works(["docker", f"--host={address}", "info"]),
            within_s=START_S,
            what=f"an answer of dockerd (its log: {work / 'dockerd.log'})",
        )
        yield address
    finally:
        process.terminate()
        process.wait(STOP_S)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False

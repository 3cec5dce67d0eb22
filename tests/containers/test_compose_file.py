"""Docker Compose accepts the file; unit tests without Docker check its content."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support.stack import ROOT


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not there")
@pytest.mark.parametrize(
    "profile", ["core", "dashboards", "full", "verifier", "streams", "hive", "jobs"]
)
def test_compose_accepts_the_file(profile: str) -> None:
    checked = subprocess.run(
        ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "--profile", profile, "config", "-q"],
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr

"""The compose stack, up once for this tier's tests.

With HEADWATER_TEST_IMAGES=official the official images are pulled; by default images are made on
this machine (images.py), which needs debootstrap and root, and no registry; with
HEADWATER_TEST_IMAGES=kept those of the last run are used as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.launcher.cache import default_cache
from app.launcher.compose import Compose
from app.settings import write_private
from tests.containers.engine import engine
from tests.containers.images import build_all
from tests.support.stack import ROOT, Stack, free_port_offset

UP_TIMEOUT_S = 900
IMAGES = os.environ.get("HEADWATER_TEST_IMAGES", "made")
OFFICIAL = IMAGES == "official"
OVERRIDE = "docker-compose.yml:tests/containers/override.yml"


class Containers(Stack):
    """One compose project with its own ports, driven by `headwater --docker`."""

    def __init__(self, home: Path, port_offset: int, docker: dict[str, str]) -> None:
        super().__init__(home, port_offset)
        self.environment.update(docker)
        if not OFFICIAL:
            self.environment["COMPOSE_FILE"] = OVERRIDE

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return super().start("--docker", *arguments, **options)

    def up(self, *arguments: str, dashboards: bool = False) -> None:
        offset = str(self._port_offset)
        profile = ["--profile", "dashboards"] if dashboards else []
        self.run("up", "--port-offset", offset, *profile, *arguments, timeout_s=UP_TIMEOUT_S)
        self._take_over_secrets()

    def _take_over_secrets(self) -> None:
        """So that `settings` has the passwords, with the published ports."""
        secrets = self.docker("exec", self.container("s3"), "cat", "/etc/headwater/secrets.json")
        write_private(self.home / "secrets.json", secrets)

    def docker(self, *arguments: str) -> str:
        """`docker ARGUMENTS`; its stdout."""
        ended = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, f"docker {arguments}: {ended.stderr}"
        return ended.stdout

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{Compose(self.home).project}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        """What the daemon knows of a service's container."""
        [found] = json.loads(self.docker("inspect", self.container(service)))
        return dict(found)


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """The core stack in containers, healthy; removed with all that it kept at the end."""
    home = Path(tempfile.mkdtemp(prefix="headwater-containers-"))
    # Beside the other downloads: the base and its images are made once.
    work = default_cache() / "containers"
    try:
        with engine(work / "docker") as docker:
            os.environ.update(docker)
            if IMAGES == "made":
                if shutil.which("debootstrap") is None:
                    pytest.skip("debootstrap is not here: it makes the base of the images")
                build_all(work, full=True)
            with free_port_offset() as offset:
                stack = Containers(home, offset, docker)
                try:
                    stack.up()
                    yield stack
                finally:
                    stack.run("down", "--wipe", "--yes", timeout_s=300, expect=None)
    finally:
        shutil.rmtree(home, ignore_errors=True)

"""A test's compose project, controlled by the commands that users type."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from app.containers.compose import Compose
from app.environment.settings import write_private
from tests.support.stack import ROOT, Stack

IMAGES = os.environ.get("HEADWATER_TEST_IMAGES", "made")
OFFICIAL = IMAGES == "official"
FILES = "docker-compose.yml" + ("" if OFFICIAL else ":tests/containers/override.yml")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
CORE = [
    name
    for name, one in COMPOSE.items()
    if one["restart"] == "unless-stopped" and not one.get("profiles")
]
ONESHOTS = ["config", "store", "connectors"]
# image → the package in it to which a new version adds a line
WITH_CODE = {"headwater-app": "app", "headwater-silver": "spark_streaming"}
# The machine may have other work, so the time of a start or a recovery is printed and not asserted.
UP_TIMEOUT_S = 1_800
PATIENCE_S = 900.0
DOWN_TIMEOUT_S = 300
UNITS = {"B": 1 / (1 << 20), "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
# cgroups v2 and v1 have different file names.
OOM_KILLS = (
    "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null || true"
)


class Containers(Stack):
    """A compose project in a home of its own, with its own ports."""

    def __init__(self, port_offset: int, docker: dict[str, str]) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="headwater-containers-")), port_offset)
        self.project = Compose(self.home).project
        self._docker = docker
        self._made: list[str] = []
        self.environment.update({**docker, "COMPOSE_FILE": FILES})

    def beside(self) -> Containers:
        """Another project at the same ports, so only one of the two can be up."""
        return Containers(self._port_offset, self._docker)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return super().start("--docker", *arguments, **options)

    def up(self, *arguments: str, dashboards: bool = False) -> None:
        offset = str(self._port_offset)
        profile = ["--profile", "dashboards"] if dashboards else []
        started = time.monotonic()
        self.run("up", "--port-offset", offset, *profile, *arguments, timeout_s=UP_TIMEOUT_S)
        print(f"up: {time.monotonic() - started:.0f} s")
        # `settings` then has the passwords and the published ports.
        volume, image = f"{self.project}_config:/config:ro,nocopy", "headwater-test/app"
        secrets = self.docker(
            "run", "--rm", f"--volume={volume}", "--entrypoint=cat",
            "headwater-app" if OFFICIAL else image, "/config/secrets.json",
        )  # fmt: skip
        write_private(self.home / "secrets.json", secrets)

    def down(self) -> None:
        """Stop the containers and keep the volumes."""
        self.run("down", timeout_s=DOWN_TIMEOUT_S)

    def remove(self) -> None:
        """Remove everything of the project. Raises: AssertionError with what is left."""
        try:
            self.run("down", "--wipe", "--yes", timeout_s=DOWN_TIMEOUT_S, expect=None)
            for image in self._made:
                self.docker("image", "rm", image)
            left = self.left()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
        assert left == [], f"left behind: {left}"

    def left(self) -> list[str]:
        """The project's containers, volumes and networks."""
        label = f"--filter=label=com.docker.compose.project={self.project}"
        kinds = {"container": ["ps", "--all"], "volume": ["volume", "ls"]}
        kinds["network"] = ["network", "ls"]
        return [
            f"{kind} {one}"
            for kind, listed in kinds.items()
            for one in self.docker(*listed, "--quiet", label).split()
        ]

    # -- what is

    def docker(self, *arguments: str, stdin: str = "") -> str:
        """`docker ARGUMENTS`; its stdout."""
        # Only builders that see the images of this machine.
        builder = {"DOCKER_BUILDKIT": "1" if OFFICIAL else "0", "BUILDX_BUILDER": "default"}
        ended = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env={**self.environment, **builder},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, f"docker {arguments}: {ended.stderr}"
        return ended.stdout

    def read(self, reader: str, *arguments: str) -> str:
        """The output of one of the readers."""
        _, *words = Compose(self.home).command("run", "--rm", "--no-deps", "-T", reader, *arguments)
        return self.docker(*words)

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.project}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        """The daemon's description of a service's container."""
        [found] = json.loads(self.docker("inspect", self.container(service)))
        return dict(found)

    def state(self, service: str) -> dict[str, Any]:
        """The state of a service's container."""
        return dict(self.inspect(service)["State"])

    def memory_mb(self, services: Iterable[str]) -> dict[str, float]:
        """Service → the current memory of its container."""
        names = {self.container(service): service for service in services}
        found = {}
        for line in self.docker("stats", "--no-stream", "--format={{json .}}", *names).splitlines():
            one = json.loads(line)
            used = re.match(r"([\d.]+)(\w+)", one["MemUsage"])
            assert used, one
            found[names[one["Name"]]] = round(float(used.group(1)) * UNITS[used.group(2)], 1)
        return found

    def oom_kills(self, service: str) -> int:
        """The number of processes of a running container that were killed by its memory limit."""
        told = self.docker("exec", self.container(service), "sh", "-c", OOM_KILLS)
        found = re.findall(r"^oom_kill (\d+)$", told, re.M)
        assert found, f"{service} does not tell: {told!r}"
        return sum(map(int, found))

    # -- another version

    def take_a_new_version(self) -> None:
        """Make images of another version of our code, with one more line, for the next start."""
        services: dict[str, str] = {}
        for image, package in WITH_CODE.items():
            of_image = [name for name, one in COMPOSE.items() if one["image"] == image]
            now = image if OFFICIAL else image.replace("headwater-", "headwater-test/")
            new = f"{self.project}-next-{package.replace('_', '-')}"
            line = f"RUN echo 'NEXT = True' >> {package}/__init__.py"
            text = f"FROM {now}\nUSER root\n{line}\nUSER headwater\n"
            self.docker("build", f"--tag={new}", "-", stdin=text)
            self._made.append(new)
            build = "build: !reset null, " * OFFICIAL
            services |= dict.fromkeys(of_image, f"{{ image: {new}, {build}pull_policy: never }}")
        lines = [f"  {name}: {value}" for name, value in services.items()]
        path = self.home / "next.yml"
        path.write_text("\n".join(["services:", *lines, ""]))
        self.environment["COMPOSE_FILE"] = f"{FILES}:{path}"


def is_healthy(state: dict[str, Any]) -> bool:
    """Whether a container runs and its own health check says so."""
    return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

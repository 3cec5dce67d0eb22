"""Runs Docker Compose for `--docker`: the environment file, containers, addresses, failures.

Compose finds its file as usual (it reads `COMPOSE_FILE`, `COMPOSE_PROJECT_NAME` and the like). This
module adds the environment file, and reports failures as the launcher does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.containers.container_config import NATIVE_ONLY
from app.environment.settings import ROOT, write_private
from app.errors import HeadwaterError
from app.services.service import load_services
from app.services.templates import variables

PROJECT = "headwater"
VERBS = "headwater"  # the service that runs the verbs on data
PROFILES = ("core", "dashboards", "full")
ASK_TIMEOUT_S = 60
LAST_LINES = 15
PLAIN_VALUE = re.compile(r"^[\w./:@%,+-]*$")
HEADER = """\
# The containers' environment file: read by `docker compose` and by `./headwater --docker`.
# Secrets of the stack's own are not here: they are made at the first start, in the volume `config`.
"""
SECRETS_FILE = "/etc/headwater/run/{service}/service_secrets.json"
NEVER_HERE = ("localhost", "127.0.0.1", "::1")


class Compose:
    """One compose project; `home` None is the clone's own, with `.env` beside the file."""

    def __init__(self, home: Path | None = None, root: Path = ROOT) -> None:
        self.root = root
        self.project = PROJECT
        self.env_file = root / ".env"
        if home is not None:
            folder = home.expanduser().resolve()
            self.project = f"{PROJECT}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
            self.env_file = folder / "docker.env"

    # -- the environment file

    def environment(self) -> dict[str, str]:
        """Return the variables of the environment file; empty if there is none yet."""
        if not self.env_file.exists():
            return {}
        lines = self.env_file.read_text().splitlines()
        pairs = (line.partition("=") for line in lines if re.match(r"^[A-Z_][A-Z0-9_]*=", line))
        return {name: value.strip().strip("'") for name, _, value in pairs}

    def set_environment(self, changes: Mapping[str, str]) -> None:
        """Set these keys in the environment file (mode 0600), which is created if it is missing."""
        text = self.env_file.read_text() if self.env_file.exists() else HEADER
        for name, value in changes.items():
            # Single quotes: compose would look for variables in a password with a `$`.
            quoted = value if PLAIN_VALUE.match(value) else f"'{value}'"
            line = f"{name}={quoted}"
            text, found = re.subn(rf"^{name}=.*$", lambda _, line=line: line, text, flags=re.M)  # type: ignore[misc]
            text += "" if found else f"{line}\n"
        write_private(self.env_file, text)

    # -- running compose

    def command(self, *arguments: str) -> list[str]:
        """The command line of `docker compose ARGUMENTS` for this project."""
        found = ["docker", "compose"]
        if "COMPOSE_PROJECT_NAME" not in os.environ:
            found += ["--project-name", self.project]
        if self.env_file.exists():
            found += ["--env-file", str(self.env_file)]
        return [*found, *arguments]

    def run(self, *arguments: str) -> int:
        """Run compose with this process's own input and output; returns its exit code."""
        require_docker()
        with subprocess.Popen(self.command(*arguments), cwd=self.root) as process:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    continue  # compose also got the signal, and stops the containers that it started

    def ask(self, *arguments: str) -> str:
        """Return compose's stdout; HeadwaterError with its stderr if it fails."""
        require_docker()
        try:
            ended = subprocess.run(
                self.command(*arguments),
                cwd=self.root,
                capture_output=True,
                text=True,
                timeout=ASK_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise HeadwaterError(
                f"`docker compose {arguments[0]}` gave no answer within {ASK_TIMEOUT_S} s",
                hint="does the Docker daemon answer? try: docker info",
            ) from None
        if ended.returncode != 0:
            raise HeadwaterError(
                f"`docker compose {arguments[0]}` failed", detail=ended.stderr.strip()
            )
        return ended.stdout

    # -- what runs

    def containers(self) -> list[dict[str, Any]]:
        """Every container of the project, as `docker compose ps --format json` lists it."""
        printed = self.ask("--profile", "*", "ps", "--all", "--format", "json").strip()
        if printed.startswith("["):  # older versions print one array
            return list(json.loads(printed))
        return [json.loads(line) for line in printed.splitlines()]

    def is_up(self) -> bool:
        """Whether any container of the project runs."""
        return any(one["State"] == "running" for one in self.containers())

    def urls(self) -> dict[str, str]:
        """Return name → address on this machine, for the ports that the chosen profiles publish.

        An address that holds a secret is left out if its container does not run.
        """
        config = json.loads(self.ask("config", "--format", "json"))["services"]
        found = {}
        for service in load_services(self.root).values():
            ports = config.get(service.name, {}).get("ports", [])
            published = {int(port["target"]): port["published"] for port in ports}
            for name, template in service.urls.items():
                named = variables(template)
                asked = [v.removeprefix("port.") for v in named if v.startswith("port.")]
                hidden = [v for v in named if v.startswith("secret.")]
                if all(service.ports.get(port) in published for port in asked):
                    if hidden and not (secrets := self._secrets(service.name)):
                        continue
                    for variable in hidden:
                        value = secrets[variable.removeprefix("secret.")]
                        template = template.replace(f"${{{variable}}}", value)
                    for port in asked:
                        number = str(published[service.ports[port]])
                        template = template.replace(f"${{port.{port}}}", number)
                    found[name] = template
        return found

    def _secrets(self, service: str) -> dict[str, str]:
        """Read a service's secrets in its container; empty if that does not run."""
        if not any(c["Service"] == service and c["State"] == "running" for c in self.containers()):
            return {}
        return dict(
            json.loads(self.ask("exec", "-T", service, "cat", SECRETS_FILE.format(service=service)))
        )

    def failures(self) -> str:
        """Return the last lines of the containers that failed or are unhealthy."""
        reports = []
        for one in self.containers():
            if one.get("ExitCode") or one.get("Health") == "unhealthy":
                lines = self.ask(
                    "logs", "--no-log-prefix", "--tail", str(LAST_LINES), one["Service"]
                )
                state = one.get("Status") or one["State"]
                reports.append(f"{one['Service']}: {state}\n{lines.rstrip()}")
        return "\n".join(reports)


def require_docker() -> None:
    """Raise HeadwaterError where Docker or its compose plugin is missing."""
    hint = "install Docker with its compose plugin, or run the native stack: ./headwater up"
    if shutil.which("docker") is None:
        raise HeadwaterError("`docker` was not found on PATH", hint=hint)
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True)
    if asked.returncode != 0:
        raise HeadwaterError(
            "`docker compose` does not work here", detail=asked.stderr.strip(), hint=hint
        )


def check_services(names: Sequence[str], root: Path = ROOT) -> None:
    """Refuse a service without a container; HeadwaterError lists the known ones."""
    known = [name for name in load_services(root) if name not in NATIVE_ONLY]
    for name in names:
        if name in NATIVE_ONLY:
            raise HeadwaterError(
                f"`{name}` runs natively only",
                hint="Docker keeps what containers say: ./headwater --docker logs SERVICE",
            )
        if name not in known:
            raise HeadwaterError(
                f"there is no service `{name}`", hint=f"known are {', '.join(known)}"
            )


def check_source(dsn: str) -> None:
    """Refuse a source at localhost, which in a container is the container itself."""
    host = urlsplit(dsn).hostname
    if host is None or host in NEVER_HERE:
        raise HeadwaterError(
            f"in a container, {host or 'no host'} is the container itself",
            hint="name this machine host.docker.internal in --source, and let your Postgres listen "
            "on Docker's network",
        )

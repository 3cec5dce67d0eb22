"""What the benchmark asks of every contender, Headwater among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from app.artefacts.bootstrap import MAIN_PACKAGES
from app.artefacts.dist import Artefacts
from app.compare.digest import Row
from app.processes.process import CHILD
from spark_streaming.contract.contract import Contract
from tests.support.stack import ROOT, Stack

HERE = Path(__file__).parent
STOP_S = 30.0
LOG_LINES = 15
READER = "reader"  # a process that reads for the benchmark, so its CPU is not the contender's


@dataclass(frozen=True)
class Arena:
    """Where a contender runs: a stack with its source, a folder of its own, the tables to keep."""

    stack: Stack
    folder: Path
    tables: Sequence[str]

    @property
    def dsn(self) -> str:
        """The address of the source, as the tables' owner; holds a password."""
        return self.stack.settings.source_dsn

    @property
    def source(self) -> dict[str, str]:
        """The same in parts: host, port, user, password, database."""
        parts = urlsplit(self.dsn)
        return {
            "host": parts.hostname or "",
            "port": str(parts.port),
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": parts.path.strip("/"),
        }


class Contender(Protocol):
    """A way from the source's log to tables of a lake.

    Attributes:
        name: in the report.
        identity: the replica identity that it asks of the source's tables.
        services: of the stack, that it needs beside the source; empty for all of them.
        facts: versions and settings, for the report.
    """

    name: str
    identity: str
    services: tuple[str, ...]

    def facts(self) -> dict[str, Any]: ...

    def start(self, arena: Arena) -> None:
        """Begin to copy the tables, which have rows already."""

    def pids(self) -> Mapping[str, int]:
        """Its own processes by name, without the stack's services; READER is the benchmark's own."""

    def ended(self) -> bool:
        """Whether its process has ended by itself."""

    def value(self, table: str, key: int) -> int | None:
        """`v` of one row by the format's own reader; None while there is no such row or table."""

    def rows(self, contract: Contract) -> Iterable[Row]:
        """All rows of a table as canonical texts."""

    def log_tail(self) -> str:
        """The last lines of its log; empty without one."""

    def stop(self) -> None:
        """End its processes."""


@dataclass
class Program:
    """A process of a contender, with its output in a file beside its other files."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    asked: bool = False  # requests on stdin, answers on stdout
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it in a session of its own; the kernel kills it when the benchmark dies.

        Call it from the main thread: the kernel's parent-death signal is bound to the thread that forks.
        """
        pipe = subprocess.PIPE if self.asked else None
        # The launcher's own way; -1: no change of user.
        wrapper = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), "-1", "-1"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, *self.command], cwd=self.folder, env={**os.environ, **self.environment},
                stdin=pipe or subprocess.DEVNULL, stdout=pipe or log, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip

    def ask(self, request: str) -> str:
        """Send a line to the process and return the line that it answers."""
        process = self.process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(request + "\n")
        process.stdin.flush()
        return process.stdout.readline().rstrip("\n")

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def tail(self) -> str:
        """The last lines of its output."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def stop(self) -> None:
        """End it and its children; does nothing if it was not started."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the session's group, whose number is its own
        process.wait(timeout=STOP_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


@cache
def peers_artefacts() -> Artefacts:
    """The artefacts that only this benchmark fetches."""
    return Artefacts(HERE)


def python_job(
    name: str, arena: Arena, module: str, options: Mapping[str, Any], **extra: str
) -> Program:
    """A Python program of this folder; its options are the first argument, a JSON file."""
    file = arena.folder / f"{name}.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(options))
    python = extra.pop("python", sys.executable)
    variables = {
        "PYTHONPATH": str(ROOT),
        MAIN_PACKAGES: sysconfig.get_path("purelib"),
        **extra,
    }
    command = [python, "-m", f"tests.bench.peers.{module}", str(file)]
    return Program(name, command, arena.folder, variables)


def peers_python() -> str:
    """The interpreter that has the peers' packages; made at its first use."""
    artefacts = peers_artefacts()
    artefacts.prepare(["python"])
    return str(artefacts.directory("python") / "bin" / "python")

"""A real stack for tests, started and stopped by the project's own command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import tomli

from app.environment.settings import Settings, load
from app.environment.toml_files import description_files
from app.launcher.state import Home, Observed
from app.query.trino_connection import connect
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
UP_TIMEOUT_S = 600
# A test's JVMs live for a minute or two, in which the second compiler only takes CPU from the work.
# Benchmarks start them like users (`tests/bench/conftest.py`).
JVM_OPTIONS = {"HEADWATER_JVM_OPTIONS": "-XX:TieredStopAtLevel=1"}
DOWN_TIMEOUT_S = 300  # JVMs may write their AOT caches, once


class Stack:
    """One home with its own ports: runs the command line in it, and connects to its services."""

    def __init__(self, home: Path, port_offset: int) -> None:
        self.home = home
        self.environment = {
            **JVM_OPTIONS,
            **os.environ,
            "HEADWATER_HOME": str(home),
            "HEADWATER_PORT_OFFSET": str(port_offset),
        }
        self._port_offset = port_offset
        self._dashboards = False

    @property
    def settings(self) -> Settings:
        return load(self.home, port_offset=self._port_offset)

    @property
    def supervisor_pid(self) -> int:
        return int((self.home / "supervisor.pid").read_text().split()[0])

    def kill_supervisor(self, pid: int | None = None) -> None:
        """SIGKILL the supervisor, and wait until all processes have ended with it.

        Args:
            pid: the supervisor's, if its file may be out of reach by now.
        """
        os.kill(pid or self.supervisor_pid, signal.SIGKILL)
        until(
            lambda: processes_of(self.home),
            lambda left: not left,
            within_s=60,
            what="the end of every process of the stack",
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start `headwater ARGUMENTS` like the shim, with its output captured."""
        return subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(
        self, *arguments: str, timeout_s: float = 120, expect: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run `headwater ARGUMENTS` to its end; `expect` is the exit code, None for any."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"headwater {arguments} hung\n{out}\n{err}") from None
        if expect is not None and process.returncode != expect:
            raise AssertionError(
                f"headwater {' '.join(arguments)} ended with {process.returncode}\n{out}\n{err}"
            )
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def answer(self, *words: str, timeout_s: float = 120, expect: int | None = 0) -> Any:
        """The output of `headwater WORDS --format json`."""
        ended = self.run(*words, "--format", "json", timeout_s=timeout_s, expect=expect)
        return json.loads(ended.stdout)

    def up(self, *arguments: str, dashboards: bool = False) -> None:
        """Start the stack; without Superset, which few tests need, unless it is named."""
        self._dashboards = self._dashboards or dashboards
        choice = "--dashboards" if self._dashboards else "--no-dashboards"
        self.run("up", choice, *arguments, timeout_s=UP_TIMEOUT_S)

    def stop(self, *services: str) -> None:
        """Stop services that a test has started in addition; no command does that.

        One on which a running service depends does not end: name that service, too.
        """
        from app.launcher.control import Stack as Control

        Control(self.settings)._take_back(services, Silence())
        left = [name for name in services if self.observed(name).pid is not None]
        assert not left, f"{', '.join(left)} still run: does a running service depend on them?"

    def status(self) -> dict[str, dict[str, Any]]:
        """Service name → its row of `headwater status`."""
        return {row["service"]: row for row in self.answer("status")}

    def checks(
        self, *words: str, expect: int | None = None, timeout_s: float = 120
    ) -> dict[str, dict[str, Any]]:
        """Check → its row of `headwater preflight WORDS`."""
        rows = self.answer("preflight", *words, expect=expect, timeout_s=timeout_s)
        return {row["check"]: row for row in rows}

    def urls(self) -> dict[str, str]:
        """Service name → its address."""
        return dict(self.answer("urls"))

    def observed(self, service: str) -> Observed:
        """A service in the supervisor's last state; cheap, because it starts no command."""
        return Home(self.home).snapshot().services[service]

    def kill(
        self,
        service: str,
        *,
        ready: bool = True,
        within_s: float = 180,
        by: signal.Signals = signal.SIGKILL,
    ) -> None:
        """End a service's process by a signal and wait for its next one, until that is `ready`."""
        pid = self.observed(service).pid
        assert pid is not None, f"{service} does not run"
        os.kill(pid, by)
        until(
            lambda: self.observed(service),
            lambda seen: (
                seen.pid not in (None, pid) and (not ready or seen.state in ("ready", "completed"))
            ),
            within_s=within_s,
            what=f"{service} {'ready' if ready else 'started'} again after {by.name}",
        )

    @contextmanager
    def without(self, service: str) -> Iterator[None]:
        """Kill a service again whenever it has started, until the end; then it is started at once."""
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.2):
                pid = self.observed(service).pid
                if pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            until(lambda: self.observed(service).pid is None, within_s=30, what=f"{service} away")
            yield
        finally:
            stop.set()
            killer.join()
            self.up("--only", service)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Trino's answer, through the Python client."""
        with closing(connect(self.settings.trino_url)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]

    def await_answer(
        self, statement: str, rows: list[tuple[Any, ...]], *, within_s: float = 180
    ) -> None:
        """Wait until Trino answers a statement with exactly these rows."""
        until(
            lambda: self.query(statement),
            lambda found: found == rows,
            within_s=within_s,
            what=f"{rows} for {statement}",
        )

    @contextmanager
    def source(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection to the source as its owner; each statement is committed at once."""
        with psycopg.connect(self.settings.source_dsn, autocommit=True) as connection:
            yield connection

    def await_tables(self, *tables: str, within_s: float = 180) -> None:
        """Wait until each of these new tables of the source has rows in Trino."""
        for table in tables:
            until(
                lambda table=table: self.query(f"SELECT 1 FROM silver.{table} LIMIT 1"),  # type: ignore[misc]
                within_s=within_s,
                what=f"rows of {table} in Trino",
                every_s=0.5,
            )

    @contextmanager
    def contract_files(self, tables: Iterable[str], types: Iterable[str] = ()) -> Iterator[Path]:
        """The folder of the stack's own contract files, emptied at the end; then tables and types are dropped.

        Otherwise rows in quarantine would be differences in a later verification of everything.
        """
        folder = self.settings.contracts_dir
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            for path in folder.glob("*.toml"):
                path.unlink()
            with self.source() as source:
                for kind, names in (("TABLE", list(tables)), ("TYPE", list(types))):
                    if names:
                        source.execute(f"DROP {kind} IF EXISTS {', '.join(names)}".encode())

    def verify(self, *tables: str, timeout_s: float = 300) -> list[dict[str, Any]]:
        """Check that `headwater verify` finds no difference. Returns: its rows."""
        return list(self.answer("verify", *tables, timeout_s=timeout_s))

    def verdicts(self, *tables: str, timeout_s: float = 300) -> dict[str, str]:
        """Table → the verdict of `headwater verify`, good or bad."""
        words = ("verify", *tables, "--format", "json")
        ended = self.run(*words, timeout_s=timeout_s, expect=None)
        return {row["table"]: row["verdict"] for row in json.loads(ended.stdout or "[]")}


class Silence:
    """Discards the progress."""

    def note(self, text: str) -> None:
        """Nothing is shown."""

    def waiting(self, text: str) -> None:
        """Nothing is shown."""


@contextmanager
def fresh_stack(home: Path | None = None) -> Iterator[Stack]:
    """A stack that is not started yet; at the end it is stopped, checked for leftovers and removed."""
    # Not pytest's own folder, because Postgres' unprivileged user must have access if the tests run as root.
    home = home or Path(tempfile.mkdtemp(prefix="headwater-test-"))
    home.chmod(0o755)
    with free_port_offset() as offset:
        stack = Stack(home, offset)
        try:
            with _stopped_if_killed(stack):
                yield stack
        finally:
            stack.run("down", "--wipe", timeout_s=DOWN_TIMEOUT_S, expect=None)
            left = processes_of(home)
            shutil.rmtree(home, ignore_errors=True)
            assert left == [], f"left running: {left}"


@contextmanager
def _stopped_if_killed(stack: Stack) -> Iterator[None]:
    """Let the stack be stopped and removed even if this process is killed during the block.

    A shell waits for the end of a pipe that only this process can write to.
    """
    script = 'read -r _ && exit; "$0" -m app down --wipe; rm -rf "$HEADWATER_HOME"'
    guard = subprocess.Popen(
        ["/bin/sh", "-c", script, sys.executable], cwd=ROOT, env=stack.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        guard.communicate("ended\n")


@contextmanager
def free_port_offset() -> Iterator[int]:
    """Reserve an offset at which all services' ports are free; no other test gets it meanwhile.

    Several workers run tests at once, so another could take ports that were only checked.
    """
    ports: list[int] = []
    for path in description_files(ROOT):
        for service in tomli.loads(path.read_text())["services"].values():
            ports += service.get("ports", {}).values()
    # Below the ports that the kernel assigns to clients: hundreds of those are in use at any time,
    # and one could be taken between this check and the service's start.
    last = first_client_port() - max(ports) - 1
    offsets = list(range(1_000, last, 100))
    turn = os.getpid() % len(offsets)
    taken = 0
    for offset in offsets[turn:] + offsets[:turn]:
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0headwater-test-offset-{offset}")  # no file; ends with the process
            except OSError:
                continue
            taken = next((port + offset for port in ports if not _is_free(port + offset)), 0)
            if not taken:
                yield offset
                return
    raise AssertionError(f"none of {len(offsets)} port offsets is free; last seen taken: {taken}")


def first_client_port() -> int:
    """The first of the ports that the kernel assigns to clients."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768


def processes_of(home: Path) -> list[str]:
    """The command lines of the processes that work in `home`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            cwd = str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(home) in line or cwd.startswith(str(home)):
            found.append(f"{entry.name}: {line[:120]}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

"""What a stack's home remembers: what is wanted, what was last observed, and who supervises.

All files are replaced atomically. The lock, not a pid file, says whether a supervisor lives: the
kernel frees it at any death, so it is never stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from app.errors import HeadwaterError
from app.launcher.process import start_time
from app.settings import write_private


@dataclass
class Wanted:
    """What `up` and `down` ask of the supervisor. `generation` counts the asks."""

    generation: int = 0
    services: list[str] = field(default_factory=list)


@dataclass
class Observed:
    """One service as the supervisor last saw it. Times are seconds since the epoch."""

    state: str = "stopped"
    since: float = 0.0
    pid: int | None = None
    start_time: int = 0
    restarts: int = 0
    waits_for: str = ""
    error: dict[str, str] | None = None


@dataclass
class Snapshot:
    """`state.json`: all services, and the ask that this state answers."""

    boot_id: str = ""
    generation: int = 0
    services: dict[str, Observed] = field(default_factory=dict)


class Home:
    """The state folder of one stack."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wanted_file = path / "wanted.json"
        self.state_file = path / "state.json"
        self.pid_file = path / "supervisor.pid"
        self.log_file = path / "supervisor.log"
        self._lock_file = path / "supervisor.lock"

    def make(self) -> None:
        """Make the folder; when root, services of other users must get through to theirs."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise HeadwaterError(
                f"cannot make the home {self.path}",
                detail=str(error),
                hint="put the stack elsewhere with HEADWATER_HOME=FOLDER",
            ) from error
        if not os.access(self.path, os.W_OK):
            raise HeadwaterError(
                f"the home {self.path} belongs to another user",
                hint="run the command as that user, or use a home of your own: HEADWATER_HOME=FOLDER",
            )

    def run(self, service: str) -> Path:
        return self.path / "run" / service

    def data(self, service: str) -> Path:
        return self.path / "data" / service

    # -- files

    def wanted(self) -> Wanted:
        found = _read(self.wanted_file)
        return Wanted(**found) if found else Wanted()

    def save_wanted(self, wanted: Wanted) -> None:
        write_private(self.wanted_file, json.dumps(asdict(wanted), indent=1))

    def snapshot(self) -> Snapshot:
        """The last observation; an empty one where there is none or it cannot be read."""
        found = _read(self.state_file)
        if not found:
            return Snapshot()
        try:
            services = {name: Observed(**seen) for name, seen in found.pop("services").items()}
            return Snapshot(**found, services=services)
        except (KeyError, TypeError, AttributeError):
            return Snapshot()  # written by another version: nothing in it can be relied on

    def save_snapshot(self, snapshot: Snapshot) -> None:
        write_private(self.state_file, json.dumps(asdict(snapshot), indent=1))

    # -- who supervises

    @contextlib.contextmanager
    def supervising(self) -> Iterator[None]:
        """Be this home's supervisor; HeadwaterError where another process is."""
        self.make()
        with open(self._lock_file, "w") as lock:
            # Waits a moment: `is_supervised` holds the lock for an instant.
            if not _try_lock(lock, wait_s=1.0):
                raise HeadwaterError(f"{self.path} has a supervisor already")
            mine = os.getpid()
            write_private(self.pid_file, f"{mine}\n{start_time(mine)}\n")
            try:
                yield
            finally:
                self.pid_file.unlink(missing_ok=True)

    def supervisor(self) -> int | None:
        """The pid of the living supervisor that listens for signals, or None."""
        if not self.is_supervised():
            return None
        try:
            pid, started = map(int, self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None  # it starts, or ends: its signal handlers are not to be relied on
        return pid if start_time(pid) == started else None

    def is_supervised(self) -> bool:
        """Whether a supervisor lives (it may still be starting)."""
        if not self._lock_file.exists():
            return False
        with open(self._lock_file, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    @contextlib.contextmanager
    def exclusively(self, wait_s: float) -> Iterator[None]:
        """Hold this home for one `up` or `down`; HeadwaterError after `wait_s`."""
        self.make()
        with open(self.path / "command.lock", "w") as lock:
            if not _try_lock(lock, wait_s=wait_s):
                raise HeadwaterError(
                    "another `up` or `down` of this stack is running",
                    hint="let it end, or press Ctrl-C there",
                )
            yield


def _try_lock(file: IO[str], *, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; None where it is not there or cut (a crash, a full disk)."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None

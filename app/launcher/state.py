"""The files of a stack's home: wanted services, last observed states, and the supervisor's lock.

All files are replaced atomically. A lock, not a pid file, shows whether a supervisor is alive: the
kernel releases it however the process ends, so it is never stale.
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

from app.environment.settings import write_private
from app.errors import HeadwaterError
from app.processes.log_files import is_full
from app.processes.process import boot_id, start_time


@dataclass
class Wanted:
    """The services that `up` and `down` ask for. `generation` counts these requests."""

    generation: int = 0
    services: list[str] = field(default_factory=list)


@dataclass
class Observed:
    """One service as the supervisor last observed it. Times are seconds since the epoch.

    `retry_at`: when a service that has ended is started again; 0 if it runs, or is never restarted.
    """

    state: str = "stopped"
    since: float = 0.0
    pid: int | None = None
    start_time: int = 0
    restarts: int = 0
    waits_for: str = ""
    error: dict[str, str] | None = None
    retry_at: float = 0.0


@dataclass
class Snapshot:
    """`state.json`: all services, and the generation of the request that they follow."""

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
        self._alive_file = path / "supervisor.alive"

    def make(self) -> None:
        """Make the folder; if root makes it, services' users may pass through it to their folders."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise HeadwaterError(
                f"cannot make the home {self.path}",
                detail=str(error),
                hint="put the stack elsewhere with HEADWATER_HOME=FOLDER",
            ) from error
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise HeadwaterError(
                f"the home {self.path} belongs to another user",
                detail=f"its owner is user {found.st_uid}, this is user {os.geteuid()}",
                hint="run the command as that user, or use a home of your own: HEADWATER_HOME=FOLDER",
            )
        allowed = 0o711 if os.geteuid() == 0 else 0o700
        if found.st_mode & 0o777 & ~allowed:
            self.path.chmod(found.st_mode & allowed)  # it holds secrets, and names of your tables

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
        """Return the last observation; an empty one if there is none or it cannot be read."""
        found = _read(self.state_file)
        if not found:
            return Snapshot()
        try:
            services = {name: Observed(**seen) for name, seen in found.pop("services").items()}
            return Snapshot(**found, services=services)
        except (KeyError, TypeError, AttributeError):
            return Snapshot()  # another version wrote it, so none of it is reliable

    def save_snapshot(self, snapshot: Snapshot) -> None:
        write_private(self.state_file, json.dumps(asdict(snapshot), indent=1))

    def forget_snapshot(self) -> None:
        """Write that nothing is known to run."""
        try:
            self.save_snapshot(Snapshot(boot_id=boot_id()))
        except OSError as error:
            if not is_full(error):
                raise
            self.state_file.unlink(missing_ok=True)  # this needs no room

    # -- the supervisor

    @contextlib.contextmanager
    def supervising(self) -> Iterator[None]:
        """Be this home's supervisor; HeadwaterError if another process is."""
        self.make()
        with open(self._lock_file, "w") as lock:
            # Waits a moment: `is_supervised` holds the lock for an instant.
            if not _try_lock(lock, wait_s=1.0):
                raise HeadwaterError(f"{self.path} has a supervisor already")
            mine = os.getpid()
            write_private(self.pid_file, f"{mine}\n{start_time(mine)}\n")
            self.beat()
            try:
                yield
            finally:
                self._alive_file.unlink(missing_ok=True)
                self.pid_file.unlink(missing_ok=True)

    def beat(self) -> None:
        """Note that the supervisor is alive. Only a time is written, so a full disk has room for it."""
        with contextlib.suppress(OSError):
            self._alive_file.touch(mode=0o600)

    def silent_s(self) -> float:
        """Return the seconds since the living supervisor's last turn; 0 if that is unknown."""
        try:
            beat = self._alive_file.stat().st_mtime
        except OSError:
            return 0.0  # a supervisor of an older version, or one that is ending
        return max(0.0, time.time() - beat) if self.is_supervised() else 0.0

    def supervisor(self) -> int | None:
        """Return the pid of the living supervisor that listens for signals, or None."""
        if not self.is_supervised():
            return None
        try:
            pid, started = map(int, self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None  # it is starting or ending: its signal handlers may not be set
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
    """Read a JSON object; None if the file is missing or cut (a crash, a full disk)."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None

"""Starts processes, each in a session of its own; the kernel kills them when the supervisor dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from app.environment.settings import ROOT

CHILD = Path(__file__).with_name("child_process.py")
KILL_WAIT_S = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Identity(NamedTuple):
    """A user that a process runs as."""

    uid: int
    gid: int


class RealProcess:
    """A process started by `spawn`, leader of its session and group."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._code: int | None = None
        self._start_time = start_time(popen.pid) or 0

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def start_time(self) -> int:
        """Clock ticks from boot to the start; with pid and boot they identify the process."""
        return self._start_time

    def exit_code(self) -> int | None:
        """Return the exit code, or -SIGNAL; None while it runs.

        After its end, kill the rest of its process group.
        """
        if self._code is None:
            # WNOWAIT keeps the zombie, so that no other process gets the group's number.
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.pid, options) is None:
                return None
            self._signal_group(signal.SIGKILL)
            self._code = self._popen.wait()
        return self._code

    def signal(self, number: int) -> None:
        """Send a signal to the leader, which ends its own children."""
        if self._code is None:
            # Not Popen.send_signal: it may reap, and the number would be free for another process.
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL the whole group and collect the leader's exit code."""
        if self._code is None:
            self._signal_group(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._code = self._popen.wait(KILL_WAIT_S)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # the group is empty, or only the zombie is left in it


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    stdout: int,
    stderr: int,
    identity: Identity | None = None,
) -> RealProcess:
    """Start `command` in `folder` in a session of its own; its output goes to two descriptors.

    Call it from the main thread only: the kernel's parent-death signal is bound to the thread
    that forks.
    """
    user = identity or Identity(-1, -1)
    wrapper = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
    popen = subprocess.Popen(
        [*wrapper, str(user.uid), str(user.gid), *command],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        umask=0o077,
    )
    return RealProcess(popen)


def start_supervisor(home: Path, log_file: Path, root: Path) -> subprocess.Popen[bytes]:
    """Start the supervisor of `home` in a session of its own; it outlives this process."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "HEADWATER_HOME": str(home), "PYTHONPATH": path}
    environment.pop("HEADWATER_SERVICE", None)
    with open(log_file, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "app.launcher.supervisor", str(home), str(root)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def boot_id() -> str:
    """Return a text that changes with every boot of the machine."""
    return _BOOT_ID.read_text().strip()


def start_time(pid: int) -> int | None:
    """Return the clock ticks from boot to the start of `pid`; None for a zombie or no process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold blanks and parentheses.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_running(pid: int, started: int, boot: str) -> bool:
    """Whether the process with this pid, start time and boot still runs."""
    return boot == boot_id() and started != 0 and start_time(pid) == started


def session_members(leader: int) -> list[int]:
    """Return the processes of the session that `leader` opened, it included while it lives."""
    members = []
    for pid in all_pids():
        try:
            if os.getsid(pid) == leader:
                members.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def all_pids() -> list[int]:
    """Return the pids of this machine, as far as this user sees them."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that `pid` was started with; empty if it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
    return {name: value for name, equals, value in pairs if equals}

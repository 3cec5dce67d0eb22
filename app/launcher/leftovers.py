"""Finds and removes processes and files that a crash or a reboot has left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil

from app.errors import HeadwaterError
from app.launcher.state import Home, Snapshot
from app.processes.process import (
    all_pids,
    boot_id,
    environment_of,
    is_running,
    session_members,
    start_time,
)

TERM_WAIT_S = 10.0
KILL_WAIT_S = 10.0
CLOCK_SLACK_S = 5.0  # boot time plus ticks differs from the file system's clock by at most this


def leftovers(home: Home) -> dict[int, str]:
    """Return the processes of this home's services that no supervisor owns: pid → service name.

    A process is ours if its pid and start time in this boot are the recorded ones, if it is in the
    session of such a process, or if its own environment names this home and a service.
    Only call it while no supervisor lives.
    """
    found: dict[int, str] = {}
    snapshot: Snapshot = home.snapshot()
    if snapshot.boot_id == boot_id():
        for name, seen in snapshot.services.items():
            if seen.pid is None:
                continue
            if is_running(seen.pid, seen.start_time, snapshot.boot_id):
                found.update(dict.fromkeys(session_members(seen.pid), name))
    for pid in all_pids():
        environment = {} if pid in found else environment_of(pid)
        service = environment.get("HEADWATER_SERVICE")
        if service and environment.get("HEADWATER_HOME") == str(home.path):
            found[pid] = service
    found.pop(os.getpid(), None)
    return found


def remove_stale_pid_file(path: Path) -> bool:
    """Remove a service's own pid file if another process has its pid by now.

    After a reboot any process may have the pid of the dead server, and a server that finds a living
    process of that pid refuses to start. A pid file is stale only if it names a living process that
    started after the file was last written. If no process has the pid, the server itself decides.
    Returns: whether it was removed.
    """
    try:
        pid = int(path.read_text().split()[0])
        written = path.stat().st_mtime
    except (OSError, ValueError, IndexError):
        return False
    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        return False
    if started <= written + CLOCK_SLACK_S:
        return False
    path.unlink(missing_ok=True)
    return True


def kill_leftovers(home: Home) -> dict[int, str]:
    """End the processes that `leftovers` finds, by SIGTERM and then SIGKILL; forget the recorded state.

    Returns: those processes. Raises: HeadwaterError if a process survives SIGKILL.
    """
    found = leftovers(home)
    for number, wait_s in ((signal.SIGTERM, TERM_WAIT_S), (signal.SIGKILL, KILL_WAIT_S)):
        left = [pid for pid in found if start_time(pid) is not None]
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise HeadwaterError(
                    f"process {pid} of `{found[pid]}` belongs to another user",
                    hint="run the command as the user who started this stack",
                ) from None
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not any(start_time(pid) is not None for pid in left):
                break
            time.sleep(0.05)
    survivors = [pid for pid in found if start_time(pid) is not None]
    if survivors:
        raise HeadwaterError(
            f"processes of this stack do not end: {', '.join(map(str, survivors))}",
            hint="they hang in the kernel (a dead disk or network mount?); see `ps -l`",
        )
    home.forget_snapshot()
    return found

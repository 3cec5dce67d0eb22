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
CLOCK_SLACK_S = 5.0  # boot time plus ticks is that far from the file system's clock at most


def leftovers(home: Home) -> dict[int, str]:
    """Return the processes of this home's services that no supervisor owns: pid → service name.

    A process is ours when its pid and start time in this boot are the recorded ones, when it is
    in the session of such a process, or when its own environment names this home and a service.
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
    """Remove a service's own pid file when the number in it is another process's by now.

    After a reboot the number of the dead server may belong to any process, and a server that finds
    it alive refuses to start. A pid file is stale only if it names a living process that started
    after the file was last written; a dead number is left to the server, which has better checks.
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

    Returns: those processes. Raises: HeadwaterError where something survives SIGKILL.
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

"""Processes and files that a crash or a reboot has left: recognised, then removed."""

from __future__ import annotations

import os
import signal
import time

from app.launcher.errors import HeadwaterError
from app.launcher.process import boot_id, environment_of, is_running, session_members, start_time
from app.launcher.state import Home, Snapshot

TERM_WAIT_S = 10.0
KILL_WAIT_S = 10.0


def leftovers(home: Home) -> dict[int, str]:
    """Processes of this home's services that no supervisor owns: pid → service name.

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
            alive = is_running(seen.pid, seen.start_time, snapshot.boot_id)
            leader_gone = start_time(seen.pid) is None
            if alive or leader_gone:
                # The kernel gives no new process a number that is still a session's.
                found.update(dict.fromkeys(session_members(seen.pid), name))
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in found:
            environment = environment_of(int(entry))
            if environment.get("HEADWATER_HOME") == str(home.path) and (
                service := environment.get("HEADWATER_SERVICE")
            ):
                found[int(entry)] = service
    found.pop(os.getpid(), None)
    return found


def kill_leftovers(home: Home) -> dict[int, str]:
    """End what `leftovers` finds, by SIGTERM and then SIGKILL; forget the recorded state.

    Returns: what was found. Raises: HeadwaterError where something survives SIGKILL.
    """
    found = leftovers(home)
    for number, wait_s in ((signal.SIGTERM, TERM_WAIT_S), (signal.SIGKILL, KILL_WAIT_S)):
        left = [pid for pid in found if start_time(pid) is not None]
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
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
    home.save_snapshot(Snapshot(boot_id=boot_id()))
    return found

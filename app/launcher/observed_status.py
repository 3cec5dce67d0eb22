"""Rows of `status` and progress lines of `up` and `down`, from the supervisor's observations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from app.environment.service_problem import BROKEN, problem_of
from app.launcher.leftovers import leftovers
from app.launcher.state import Home, Observed
from app.services.service import Service


@dataclass
class Row:
    """One service in `status`. `memory_mb` is resident, children included; `hint` is the next step."""

    service: str
    state: str
    pid: int | None
    port: str
    memory_mb: int | None
    uptime_s: int | None
    restarts: int
    last_error: str
    hint: str = ""


def status_rows(services: Sequence[Service], home: Home, port: Callable[[str], int]) -> list[Row]:
    """Return one row per service, in the given order.

    Without a living supervisor a service is `stopped`, or `orphaned` if its process still runs.
    """
    supervised = home.is_supervised()
    snapshot = home.snapshot()
    orphans = {} if supervised else {name: pid for pid, name in leftovers(home).items()}
    rows = []
    for service in services:
        name = service.name
        seen = snapshot.services.get(name, Observed())
        if not supervised:
            state = "orphaned" if name in orphans else "stopped"
            seen = Observed(state=state, pid=orphans.get(name), error=seen.error)
        ports = ",".join(str(port(each)) for each in service.ports)
        memory, uptime = resources(seen.pid)
        error = (seen.error or {}).get("message", "")
        hint = (seen.error or {}).get("hint", "")
        if seen.state in ("waiting", "starting") and seen.waits_for:
            error = f"waits for {seen.waits_for}"
        elif seen.state == "unresponsive":
            error = f"{error}: {(seen.error or {}).get('detail', '')}"
        elif seen.state in ("backoff", "failed") and seen.retry_at:
            error += f"; tried again in {max(0, seen.retry_at - time.time()):.0f} s"
        state = seen.state
        if state == "ready" and (problem := problem_of(home.path, name)):
            state, error = BROKEN, problem
        rows.append(Row(name, state, seen.pid, ports, memory, uptime, seen.restarts, error, hint))
    return rows


def unavailable_row(service: Service, reason: str) -> Row:
    """Return the row of a service whose program this machine does not have."""
    return Row(service.name, "unavailable", None, "", None, None, 0, reason)


def resources(pid: int | None) -> tuple[int | None, int | None]:
    """Return the resident megabytes of a process and its children, and the seconds since its start."""
    if pid is None:
        return None, None
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        memory = sum(_rss(one) for one in family) // 1_000_000
        return memory, int(time.time() - process.create_time())
    except psutil.Error:
        return None, None


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def show_changes(
    observed: dict[str, Observed], shown: dict[str, str], started: float, progress: Progress
) -> None:
    """Show each change of state since the last call, and which services `up` waits for.

    Args:
        shown: service → state shown last; updated here.
        started: when `up` began to wait, by the monotonic clock.
    """
    for name, one in observed.items():
        if shown.get(name) == one.state:
            continue
        shown[name] = one.state
        after = f"after {time.monotonic() - started:.1f} s"
        if one.state in DONE:
            progress.note(f"{name}: {one.state} {after}")
        elif one.state == "backoff":
            why = (one.error or {}).get("message", "it ended")
            progress.note(f"{name}: {why}; it is tried again")
        elif one.state == "failed":
            why = (one.error or {}).get("message", "it failed")
            progress.note(f"{name}: {why}; see `./headwater logs {name}`")
    active = [
        f"{name} ({one.waits_for or one.state})"
        for name, one in observed.items()
        if one.state in ("preparing", "starting", "backoff", "unresponsive", "stopping")
    ]
    # Between two services nothing is active: show those that have not begun yet.
    rest = [name for name, one in observed.items() if one.state not in DONE]
    progress.waiting(f"waiting for {'; '.join(active) or ', '.join(rest)}")


def describe_stopping(observed: dict[str, Observed]) -> str:
    """Describe the services that still run, and why their end takes longer than usual."""
    alive = [name for name, one in observed.items() if one.pid is not None]
    reasons = sorted({one.waits_for for one in observed.values() if one.state == "stopping"} - {""})
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"waiting for the end of {', '.join(alive) or 'the supervisor'}{why}"


DONE = ("ready", "completed")


class Progress(Protocol):
    """The output for the progress of a command."""

    def note(self, text: str) -> None:
        """Show that something has happened."""

    def waiting(self, text: str) -> None:
        """Show the current reason of the wait; replaces the last such text."""

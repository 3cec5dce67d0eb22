"""What `status` shows: the supervisor's observations and what the kernel says of the processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from app.launcher.service import Service
from app.launcher.state import Home, Observed
from app.launcher.sweep import leftovers


@dataclass
class Row:
    """One service in `status`. `memory_mb` is resident, children included."""

    service: str
    state: str
    pid: int | None
    port: str
    memory_mb: int | None
    uptime_s: int | None
    restarts: int
    last_error: str


def status_rows(services: Sequence[Service], home: Home, port: Callable[[str], int]) -> list[Row]:
    """One row per service, in the given order.

    Without a living supervisor a service is `stopped`, or `orphaned` where its process is left.
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
        if seen.state in ("waiting", "starting") and seen.waits_for:
            error = f"waits for {seen.waits_for}"
        rows.append(Row(name, seen.state, seen.pid, ports, memory, uptime, seen.restarts, error))
    return rows


def unavailable_row(service: Service, reason: str) -> Row:
    """The row of a service whose program this machine does not have."""
    return Row(service.name, "unavailable", None, "", None, None, 0, reason)


def resources(pid: int | None) -> tuple[int | None, int | None]:
    """Resident megabytes of a process and its children, and the seconds since its start."""
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

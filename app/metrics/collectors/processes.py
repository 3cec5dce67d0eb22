"""Processes of the stack by service, and the machine that they share.

The supervisor writes each service's process to `state.json`; its children count for the service.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil

from app.health.disk import FULL, LOW, OK, disks
from app.metrics.board import Board
from app.metrics.collectors.lake_size import folder_listing

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
UP = ("ready", "completed")
DISK_STATES = (OK, LOW, FULL)
Series = dict[tuple[str], float]


def families() -> dict[int, list[int]]:
    """Return process → its children, over the whole machine. (Postgres' children have own sessions.)"""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parent = int(_fields(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.setdefault(parent, []).append(int(entry.name))
    return found


def family(pid: int, children: dict[int, list[int]]) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may have blanks and parentheses."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2 :].split()


def observed(home: Path) -> dict[str, dict[str, object]]:
    """Return service → its state as the supervisor last wrote it, with the supervisor itself."""
    try:
        state = orjson.loads((home / "state.json").read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    services = dict(state.get("services", {}))
    try:
        pid = int((home / "supervisor.pid").read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return services
    return {**services, "supervisor": {"state": "ready", "pid": pid, "restarts": 0}}


def usage(pid: int) -> tuple[float, int, int, float]:
    """Return CPU seconds, resident bytes, open files and their share of the limit, of one process."""
    fields = _fields(pid)
    cpu = (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
    files = sum(1 for _ in os.scandir(f"/proc/{pid}/fd"))
    limits = Path(f"/proc/{pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    limit = line.split()[3]
    share = files / int(limit) if limit.isdigit() else 0.0
    return cpu, int(fields[21]) * PAGE_BYTES, files, share


class ProcessCollector:
    """CPU, memory, open files and restarts of every service; CPU, memory, disk of the machine."""

    name = "processes"
    period_s = 10.0
    share = 0.002

    def __init__(self, home: Path, board: Board) -> None:
        self._home = home
        self._board = board

    def collect(self) -> None:
        children = families()
        services = observed(self._home)
        up: Series = {}
        restarts: Series = {}
        cpu: Series = {}
        memory: Series = {}
        files: Series = {}
        share: Series = {}
        for name, seen in services.items():
            up[(name,)] = float(seen.get("state") in UP)
            restarts[(name,)] = float(str(seen.get("restarts", 0)))
            pid = seen.get("pid")
            if not isinstance(pid, int):
                continue
            parts = list(_usages([pid] if name == "supervisor" else family(pid, children)))
            cpu[(name,)] = sum(part[0] for part in parts)
            memory[(name,)] = float(sum(part[1] for part in parts))
            files[(name,)] = float(sum(part[2] for part in parts))
            share[(name,)] = max((part[3] for part in parts), default=0.0)
        board = self._board
        board.replace("headwater_service_up", up)
        board.replace("headwater_service_restarts", restarts)
        board.replace("headwater_service_cpu_seconds", cpu)
        board.replace("headwater_service_resident_bytes", memory)
        board.replace("headwater_service_open_files", files)
        board.replace("headwater_service_open_files_share", share)
        self._machine()

    def _machine(self) -> None:
        memory = psutil.virtual_memory()
        times = psutil.cpu_times()
        disk = shutil.disk_usage(self._home)
        busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        self._board.set("headwater_machine_cpus", float(os.cpu_count() or 1))
        self._board.set("headwater_machine_cpu_seconds", busy)
        self._board.set("headwater_machine_memory_bytes", float(memory.total))
        self._board.set("headwater_machine_memory_available_bytes", float(memory.available))
        self._board.set("headwater_machine_disk_bytes", float(disk.total))
        self._board.set("headwater_machine_disk_free_bytes", float(disk.free))
        found = {(one.folders[0],): one for one in disks(self._home)}
        for name, of in (
            ("headwater_disk_bytes", lambda one: one.size_bytes),
            ("headwater_disk_free_bytes", lambda one: one.free_bytes),
            ("headwater_disk_state", lambda one: DISK_STATES.index(one.state)),
        ):
            self._board.replace(name, {labels: float(of(one)) for labels, one in found.items()})

    def reset(self) -> None:
        """Do nothing: no connection is kept open."""


def _usages(pids: list[int]) -> Iterator[tuple[float, int, int, float]]:
    for pid in pids:
        try:
            yield usage(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile


class DiskCollector:
    """Bytes of each service on disk."""

    name = "disk"
    period_s = 120.0
    share = 0.001

    def __init__(self, home: Path, board: Board) -> None:
        self._home = home
        self._board = board

    def collect(self) -> None:
        found = {}
        for name in observed(self._home):
            # Where another user runs the service, these are links to folders that this user can reach.
            folders = (self._home / "run" / name, self._home / "data" / name)
            found[(name,)] = float(sum(size for f in folders for _, size in folder_listing(f)))
        self._board.replace("headwater_service_disk_bytes", found)

    def reset(self) -> None:
        """Do nothing: no connection is kept open."""

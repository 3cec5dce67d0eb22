"""Checks before a start: ports, memory, disk."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.services.service import Service

DISK_FREE_MIN_BYTES = 1_000_000_000
# The expected resident memory is a little more than a quiet start takes.
MEMORY_SHARE_MIN = 0.8
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


def check_ports(services: Iterable[Service], port: Callable[[str], int]) -> None:
    """Refuse ports of these services that something listens on.

    Raises: HeadwaterError naming every such port and, if this user may see it, the process that uses it.
    """
    taken = []
    for service in services:
        for name in service.ports:
            number = port(name)
            if is_taken(number):
                what = name if name == service.name else f"{name} of {service.name}"
                taken.append(f"{number} ({what}) is held by {holder(number)}")
    if taken:
        count = "a port is" if len(taken) == 1 else f"{len(taken)} ports are"
        raise HeadwaterError(
            f"{count} taken",
            detail="\n".join(taken),
            hint="end that program, or move this stack: ./headwater up --port-offset 1000",
        )


def is_taken(port: int) -> bool:
    """Whether a service could not listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
            attempt.listen(1)
        except PermissionError:
            return False  # a privileged port, which the service itself reports
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """Describe which process listens on `port` (name, pid, user), as far as this user may see."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and getattr(connection.laddr, "port", 0) == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {connection.pid}, user {process.username()})"
    return "another user's process, or one that is just ending"


def check_memory(services: Iterable[Service], available_bytes: int | None = None) -> None:
    """Refuse to start services that expect clearly more memory than is free.

    Raises: HeadwaterError with the requirements of each.
    """
    needs = {service.name: service.memory_mb for service in services if service.memory_mb}
    needed_mb = sum(needs.values())
    free = free_memory_bytes() if available_bytes is None else available_bytes
    free_mb = free // 1_000_000
    if free_mb < needed_mb * MEMORY_SHARE_MIN:
        largest = sorted(needs.items(), key=lambda item: -item[1])[:4]
        raise HeadwaterError(
            f"too little memory: the services need about {needed_mb} MB, {free_mb} MB are free",
            detail=", ".join(f"{name} {mb} MB" for name, mb in largest) + " are the largest",
            hint="end other programs, or start a part only: ./headwater up --only SERVICE…",
        )


def free_memory_bytes() -> int:
    """Return the free memory in bytes, of the machine or within the container's limit."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        # `max` (no limit) is not a number and leaves `free` as it is.
        free = min(free, int(CGROUP_LIMIT.read_text()) - int(CGROUP_USED.read_text()))
    return max(0, free)


def check_disk(folder: Path, free_bytes: int | None = None) -> None:
    """Refuse to start if the home's disk is almost full."""
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free if free_bytes is None else free_bytes
    if free < DISK_FREE_MIN_BYTES:
        raise HeadwaterError(
            f"too little disk: {free / 1e9:.1f} GB free under {existing}, "
            f"{DISK_FREE_MIN_BYTES / 1e9:.1f} GB needed to start",
            hint="free some, or put the stack elsewhere with HEADWATER_HOME=FOLDER",
        )


def source_address(settings: Settings) -> str:
    """Return the address of the captured database, without user and password."""
    if settings.profile.embedded_source:
        return "the embedded store"
    parts = urlsplit(settings.source_dsn)
    address = parts.netloc.rpartition("@")[2] or "localhost"
    return f"{address if ':' in address else f'{address}:5432'}{parts.path}"

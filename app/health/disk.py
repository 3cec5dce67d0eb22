"""The disks of a home: how much room they have, and when that is too little."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from app.health.problem import Problem

# Low: time to act. A twelfth of the disk, but at most this many bytes.
LOW_SHARE, LOW_BYTES_MAX = 0.08, 10_000_000_000
# Full: Postgres, Kafka and the store fail by then, or with the next larger file.
FULL_SHARE, FULL_BYTES_MAX = 0.01, 200_000_000
FILES_LOW_SHARE, FILES_FULL_SHARE = 0.05, 0.002
OK, LOW, FULL = "ok", "low", "full"
SHOWN = 6
HINT = (
    "free some, or give it more; never delete files of Postgres, Kafka or the store by hand. Stopped "
    "services continue by themselves, and nothing is lost: grafana/runbook.md, section DiskFull"
)


class Disk(NamedTuple):
    """One filesystem, and the folders of the home on it.

    Args:
        folders: relative to the home, `.` for the home itself.
        free_bytes: the part of `size_bytes` that an ordinary user may still use.
        free_files: the unused part of `files`, for filesystems with a fixed number; else both are
            0.
    """

    folders: tuple[str, ...]
    free_bytes: int
    size_bytes: int
    free_files: int = 0
    files: int = 0

    @property
    def low_bytes(self) -> int:
        return min(int(self.size_bytes * LOW_SHARE), LOW_BYTES_MAX)

    @property
    def full_bytes(self) -> int:
        return min(int(self.size_bytes * FULL_SHARE), FULL_BYTES_MAX)

    @property
    def state(self) -> str:
        """ok, low or full: by its bytes or by its files, whichever is worse."""
        files = self.free_files / self.files if self.files else 1.0
        if self.free_bytes <= self.full_bytes or files <= FILES_FULL_SHARE:
            return FULL
        if self.free_bytes <= self.low_bytes or files <= FILES_LOW_SHARE:
            return LOW
        return OK


def disks(home: Path) -> list[Disk]:
    """Return the disks of a home, its own first; links are followed."""
    found: dict[int, list[str]] = {}
    where: dict[int, Path] = {}
    for name, folder in _folders(home):
        try:
            device = folder.stat().st_dev
        except OSError:
            continue  # it is being made or wiped
        found.setdefault(device, []).append(name)
        where.setdefault(device, folder)
    return [_measured(tuple(names), where[device]) for device, names in found.items()]


def _folders(home: Path) -> Iterable[tuple[str, Path]]:
    yield ".", home
    for kind in ("run", "data"):
        yield kind, home / kind
        try:
            inner = sorted((home / kind).iterdir())
        except OSError:
            continue
        yield from ((f"{kind}/{folder.name}", folder) for folder in inner)


def _measured(names: tuple[str, ...], folder: Path) -> Disk:
    found = os.statvfs(folder)
    return Disk(
        names,
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
        found.f_favail,
        found.f_files,
    )


def disk_problems(found: Iterable[Disk]) -> list[Problem]:
    """Return a problem for each disk that is low or full."""
    return [
        Problem(f"disk of {one.folders[0]}", one.state, cause(one), HINT)
        for one in found
        if one.state != OK
    ]


def cause(disk: Disk) -> str:
    """Describe the room on a disk, and the folders on it."""
    shown = ", ".join(disk.folders[:SHOWN])
    if len(disk.folders) > SHOWN:
        shown += f" and {len(disk.folders) - SHOWN} folders more"
    room = f"{disk.free_bytes / 1e9:.2f} GB of {disk.size_bytes / 1e9:.2f} GB are free"
    if disk.files and disk.free_files / disk.files <= FILES_LOW_SHARE:
        room += f", and {disk.free_files} of {disk.files} files (inodes)"
    return f"{room}; it holds {shown}"

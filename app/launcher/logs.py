"""Log files of services: bounded in size, and read from their ends."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROTATE_AT_BYTES = 20_000_000
KEPT = 3
TAIL_BYTES_MAX = 64_000
READ_BYTES_MAX = 4_000_000


def rotate(path: Path, *, at_bytes: int = ROTATE_AT_BYTES, kept: int = KEPT) -> bool:
    """Copy a log that has grown over `at_bytes` to `path.1` and empty it; keep `kept` old ones.

    By copy, because the service keeps its file open. It was opened for appending, so it goes on
    at the start of the emptied file; lines written between copy and truncation are lost.
    Returns: whether it was rotated.
    """
    try:
        if path.stat().st_size <= at_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def size(path: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, lines: int, *, since: int = 0) -> list[str]:
    """The last `lines` lines after byte `since` (of the whole file when it has shrunk since)."""
    end = size(path)
    start = since if since <= end else 0
    start = max(start, end - max(TAIL_BYTES_MAX, lines * 400))
    text = read(path, start, end)
    return [line for line in text.splitlines() if line.strip()][-lines:]


def read(path: Path, start: int, end: int | None = None) -> str:
    """The text from byte `start` to `end`, at most the last READ_BYTES_MAX of it."""
    stop = size(path) if end is None else end
    start = max(start, stop - READ_BYTES_MAX)
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(max(0, stop - start)).decode(errors="replace")
    except FileNotFoundError:
        return ""

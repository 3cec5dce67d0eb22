"""Log files of services: rotated between lines, bounded by a total, and read from their ends."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import threading
from pathlib import Path

ROTATE_AT_BYTES = 20_000_000
# The older files of one log, all but the newest compressed, may take this much together.
OLDER_BYTES_MAX = 100_000_000
TAIL_BYTES_MAX = 64_000
READ_BYTES_MAX = 4_000_000
_RENAMING = threading.Lock()  # one thread writes and rotates a log, another compresses older ones
FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether an error says that a disk, or a share of it, is full."""
    return error.errno in FULL


def open_log(path: Path) -> int:
    """Open a log for appending; OSError if it is a link, which could lead into any file."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def older(path: Path) -> list[Path]:
    """Return the older files of a log, the newest first: `NAME.1`, `NAME.2.gz`, `NAME.3.gz`…"""
    pattern = re.compile(re.escape(path.name) + r"\.(\d+)(\.gz)?")
    found = []
    for item in path.parent.glob(f"{path.name}.*"):
        match = pattern.fullmatch(item.name)
        if match:
            found.append((int(match[1]), item))
    return [item for _, item in sorted(found)]


def shift(path: Path) -> None:
    """Make a log the newest of its older files. Its writer opens a new one; no byte is copied."""
    with _RENAMING:
        for item in reversed(older(path)):
            number, _, compressed = item.name.removeprefix(f"{path.name}.").partition(".")
            suffix = ".gz" if compressed else ""
            item.replace(path.with_name(f"{path.name}.{int(number) + 1}{suffix}"))
        path.replace(path.with_name(f"{path.name}.1"))


def tidy(path: Path, *, total_bytes: int = OLDER_BYTES_MAX) -> None:
    """Compress all older files but the newest, and remove the oldest beyond the total.

    A disk that has no room for the compressed file keeps the plain one until the next time.
    """
    for item in older(path)[1:]:
        if item.suffix != ".gz" and not item.is_symlink() and _has_room(item):
            _compress(path, item)
    with _RENAMING:
        kept = 0
        for item in older(path):
            kept += item.lstat().st_size
            if kept > total_bytes:
                item.unlink()


def _has_room(plain: Path) -> bool:
    """Whether there is room for a copy of a file. Compressed it is smaller, by an unknown amount."""
    try:
        return shutil.disk_usage(plain.parent).free > plain.lstat().st_size
    except FileNotFoundError:
        return False


def _compress(path: Path, plain: Path) -> None:
    packing = path.with_name(f".{path.name}.packing")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with plain.open("rb") as log:
            with (
                os.fdopen(os.open(packing, flags, 0o600), "wb") as file,
                gzip.GzipFile("", "wb", 6, file) as packed,
            ):
                shutil.copyfileobj(log, packed)
            read = os.fstat(log.fileno())
        with _RENAMING:
            # The file is found by its inode, because a rotation meanwhile gave it another number.
            for item in older(path):
                if os.path.samestat(item.lstat(), read):
                    packing.replace(item.with_name(f"{item.name}.gz"))
                    item.unlink()
    except FileNotFoundError:
        return  # it was rotated just before it was opened; the next run compresses it
    finally:
        packing.unlink(missing_ok=True)


def rotate_own(path: Path, *, at_bytes: int = ROTATE_AT_BYTES) -> bool:
    """Rotate the log that this process itself writes to on stdout and stderr.

    Returns: whether it was rotated.
    """
    if size(path) <= at_bytes:
        return False
    fresh = path.with_name(f".{path.name}.new")
    descriptor = open_log(fresh)  # first: if the disk is full, nothing has changed yet
    shift(path)
    fresh.replace(path)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    tidy(path)
    return True


def size(path: Path) -> int:
    """Return a file's size in bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, lines: int, *, since: int = 0) -> list[str]:
    """Return the last `lines` lines after byte `since`, or of the whole file if it has shrunk since.

    With `since` 0, lines that a rotation has just moved are read from the newest older file.
    """
    end = size(path)
    start = since if since <= end else 0
    start = max(start, end - max(TAIL_BYTES_MAX, lines * 400))
    text = read(path, start, end)
    found = [line for line in text.splitlines() if line.strip()][-lines:]
    before = path.with_name(f"{path.name}.1")
    if start == 0 and not since and len(found) < lines and before.exists():
        return [*tail(before, lines - len(found)), *found]
    return found


def grown(path: Path, since: int) -> tuple[str, int]:
    """Return the text after byte `since`, also across a rotation, and the byte to continue from."""
    end = size(path)
    if end >= since:
        return read(path, since, end), end
    before = path.with_name(f"{path.name}.1")
    return read(before, since) + read(path, 0, end), end


def read(path: Path, start: int, end: int | None = None) -> str:
    """Return the text from byte `start` to `end`, at most the last READ_BYTES_MAX of it."""
    stop = size(path) if end is None else end
    start = max(start, stop - READ_BYTES_MAX)
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(max(0, stop - start)).decode(errors="replace")
    except FileNotFoundError:
        return ""

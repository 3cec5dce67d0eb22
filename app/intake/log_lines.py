"""Log files as events: whole lines with their offsets, across rotation, in bounded pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

LINE_BYTES_MAX = 16 << 10
# A file that is read for the first time is sent from this many bytes before its end.
FIRST_BYTES = 256 << 10
# Beyond this distance the older part of a file is left out, which an event reports.
BEHIND_BYTES_MAX = 8 << 20
MARK_BYTES = 256
_TIME = re.compile(
    rb"^\[?(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?\s?(Z|[+-]\d\d:?\d\d)?"
)
_LEVEL = re.compile(r"\b(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\b")
_LEVEL_CHARS = 120
_PLAUSIBLE = timedelta(days=7)


class Line(NamedTuple):
    """One line of a file, with the byte at which it begins."""

    offset: int
    text: bytes


class Piece(NamedTuple):
    """Some lines of a file.

    `position`: the byte after them; `skipped`: bytes before them that were left out; `mark`: a hash
    of the bytes before `position`.
    """

    lines: list[Line]
    position: int
    skipped: int = 0
    mark: str = ""


def next_piece(path: Path, position: int | None, bytes_max: int, mark: str = "") -> Piece:
    """Read the next whole lines of a log that is rotated by copying and truncating it.

    Args:
        position: the next byte to read; None if the file was never read.
        mark: of the previous piece. A file that was emptied may have grown past `position` again;
            then
            other bytes are before it.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return Piece([], position or 0)
    if position is None:
        return last_lines(path, max(0, size - FIRST_BYTES), bytes_max)
    if position > size or (mark and mark != _mark(path, position)):
        older = path.with_name(f"{path.name}.1")
        if older.exists() and older.stat().st_size > position:
            found = _piece(older, position, bytes_max)
            if found.lines:
                return found
        position = 0
    if size - position > BEHIND_BYTES_MAX:
        found = last_lines(path, size - FIRST_BYTES, bytes_max)
        return found._replace(skipped=size - FIRST_BYTES - position)
    return _piece(path, position, bytes_max)


def last_lines(path: Path, start: int, bytes_max: int) -> Piece:
    """Read whole lines, from the first one that begins at `start` or later."""
    if start:
        with open(path, "rb") as file:
            file.seek(start - 1)
            start += file.read(bytes_max).find(b"\n")
    return _piece(path, start, bytes_max)


def _piece(path: Path, position: int, bytes_max: int) -> Piece:
    with open(path, "rb") as file:
        file.seek(position)
        content = file.read(bytes_max)
    end = content.rfind(b"\n") + 1
    if not end and len(content) == bytes_max:
        end = len(content)  # a line without an end, cut at the read limit
    lines, offset = [], position
    for text in content[:end].split(b"\n"):
        if text.strip():
            lines.append(Line(offset, text))
        offset += len(text) + 1
    return Piece(lines, position + end, mark=_mark(path, position + end))


def _mark(path: Path, position: int) -> str:
    """Hash the bytes before `position`, to recognise them."""
    with open(path, "rb") as file:
        file.seek(max(0, position - MARK_BYTES))
        return blake2b(file.read(min(position, MARK_BYTES)), digest_size=8).hexdigest()


def line_events(
    service: str, file: str, lines: list[Line], run_id: str | None, now: datetime
) -> Iterator[dict[str, Any]]:
    """Turn lines into events of `app_logs`, as the client sends them.

    A line's key is made of its place and its text: sent again, by any program, it is the same
    event.
    """
    time = now
    for line in lines:
        text = line.text[:LINE_BYTES_MAX].decode(errors="replace").replace("\0", "�")
        time = _time_of(line.text, now) or time
        found = _LEVEL.search(text[:_LEVEL_CHARS])
        level = found.group(1) if found else None
        digest = blake2b(line.text, digest_size=8).hexdigest()
        yield {
            "key": f"{service}/{file}/{line.offset}/{digest}",
            "time": time.isoformat(),
            "data": {
                "service": service,
                "run_id": run_id,
                "level": "WARN" if level == "WARNING" else level,
                "file": file,
                "message": text,
            },
        }


def _time_of(line: bytes, now: datetime) -> datetime | None:
    """Parse the time at a line's start, in UTC without a zone; None if it has no plausible time."""
    found = _TIME.match(line)
    if found is None:
        return None
    day, clock, fraction, zone = (part.decode() if part else "" for part in found.groups())
    zone = "+00:00" if zone in ("", "Z") else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    try:
        time = datetime.fromisoformat(f"{day}T{clock}.{fraction or '0':0<6}{zone}")
    except ValueError:
        return None
    time = time.astimezone(timezone.utc)
    return time if abs(now - time) < _PLAUSIBLE and time <= now else None

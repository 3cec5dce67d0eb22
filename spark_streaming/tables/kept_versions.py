"""Thins out a table's old versions with age, and says which can still be read and what they cost.

Every version can be read for some minutes (`silver_retention_minutes`). Behind that, the last
version of each hour stays for a day and the last of each day for the days of `[time_travel]`, as
long as the files that only they need fit its bytes: the oldest go first. A kept version is a commit with
its checkpoint, so that it needs no other entry of the log.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow.fs as pa_fs
from deltalake import DeltaTable

from spark_streaming.contract.contract_files import TimeTravel
from spark_streaming.storage.lake import Lake

log = logging.getLogger(__name__)
NOTHING = TimeTravel(days=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Of a small table, old versions may take more than its own size.
LIMIT_BYTES_MIN = 64 << 20
# So a table of which each hour rewrites every file has the two hours of Trino's longest query.
LIMIT_COPIES = 3
LOG = "_delta_log/"
# Beside the log; every reader and cleaner of Delta tables passes over names with `_`.
NOTE = "_versions.json"
_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint\.parquet|crc)")
_INTERVAL = re.compile(r"interval (\d+) (minute|hour|day|week)s?")
_DELTAS_DEFAULT = timedelta(days=7)


@dataclass(frozen=True)
class Version:
    """A version that can be read, and when it was committed (UTC)."""

    version: int
    at: datetime


@dataclass(frozen=True)
class VersionsNote:
    """What a table's versions take, as its last vacuum left them.

    Attributes:
        live_bytes: files of the newest version. old_bytes: files that only older versions need.
        log_bytes: the log. limit_bytes: up to which the files of kept versions stay.
        limited_at: when the limit last removed a version that the days would keep (ISO 8601).
        versions: (number, ISO 8601) of each kept version behind the minutes, oldest first.
    """

    live_bytes: int = 0
    old_bytes: int = 0
    log_bytes: int = 0
    limit_bytes: int = 0
    limited_at: str | None = None
    versions: tuple[tuple[int, str], ...] = ()


@dataclass
class Stored:
    """One listing of a table's folder."""

    log_names: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    commits: dict[int, datetime] = field(default_factory=dict)
    checkpoints: set[int] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)

    def checkpointed(self) -> list[Version]:
        """The versions that need no other entry of the log, oldest first."""
        whole = sorted(self.checkpoints & self.commits.keys())
        return [Version(number, self.commits[number]) for number in whole]

    def log_bytes(self) -> int:
        """The size of the log."""
        return sum(size for name, size in self.sizes.items() if name.startswith(LOG))


@dataclass(frozen=True)
class Choice:
    """The versions to keep (newest first), the files that they need, and the log entries to delete."""

    kept: list[Version]
    files: Mapping[str, int]
    left_out: int
    log_names: list[str]


def listing(lake: Lake, path: str) -> Stored:
    """List the objects of the table at `path`, by names below it."""
    found, files = Stored(), lake.filesystem()
    for info in files.get_file_info(pa_fs.FileSelector(path, recursive=True)):
        name = info.path.removeprefix(f"{path}/")
        if not info.is_file or name == NOTE:
            continue
        found.sizes[name] = int(info.size or 0)
        entry = _ENTRY.fullmatch(name.removeprefix(LOG)) if name.startswith(LOG) else None
        if entry is None:
            continue
        number = int(entry[1])
        found.log_names[number].append(name)
        if entry[2] == "json":
            found.commits[number] = info.mtime
        elif entry[2] != "crc":
            found.checkpoints.add(number)
    return found


def choose(
    stored: Stored,
    live: Mapping[str, int],
    files_of: Callable[[int], Mapping[str, int]],
    keep: TimeTravel,
    window: timedelta,
    now: datetime,
) -> Choice:
    """Decide which versions stay behind the `window`, within which all stay.

    Args:
        live: the newest version's files, with their bytes. files_of: returns those of a version.
    """
    whole = stored.checkpointed()
    kept, files, left_out = _within(
        thinned(whole, keep.days, window, now), live, files_of, limit_bytes(keep, live)
    )
    # Each version of the window needs the log from the last checkpoint before it on.
    before = [each.version for each in whole if now - each.at > window]
    start, stay = max(before, default=0), {each.version for each in kept}
    names = [
        name
        for number, some in sorted(stored.log_names.items())
        if number < start and number not in stay
        for name in some
    ]
    return Choice(kept, files, left_out, names)


def thinned(
    versions: Iterable[Version], days: int, window: timedelta, now: datetime
) -> list[Version]:
    """The last version of each hour of the last day, and of each day (UTC) before; newest first.

    Versions within the `window` do not count: they stay anyway.
    """
    last: dict[tuple[timedelta, int], Version] = {}
    for each in sorted(versions, key=lambda each: each.version):
        age = now - each.at
        if window < age <= timedelta(days=days):
            span = HOUR if age <= DAY else DAY
            last[span, int(each.at.timestamp() // span.total_seconds())] = each
    return sorted(last.values(), key=lambda each: -each.version)


def limit_bytes(keep: TimeTravel, live: Mapping[str, int]) -> int:
    """The greatest size, in bytes, of the files that only kept versions need."""
    if keep.max_mb is not None:
        return keep.max_mb << 20
    return max(LIMIT_COPIES * sum(live.values()), LIMIT_BYTES_MIN)


def window_of(table: DeltaTable) -> timedelta:
    """For how long every version of the table can be read, by its property."""
    wanted = table.metadata().configuration.get("delta.deletedFileRetentionDuration") or ""
    found = _INTERVAL.fullmatch(wanted)
    return timedelta(**{f"{found[2]}s": int(found[1])}) if found else _DELTAS_DEFAULT


def file_sizes(table: DeltaTable) -> dict[str, int]:
    """The files of the open version, with their bytes."""
    actions = table.get_add_actions()
    return dict(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))


def read_note(lake: Lake, path: str) -> VersionsNote | None:
    """Read what the last vacuum of the table at `path` noted; None before the first. Raises: OSError."""
    try:
        with lake.filesystem().open_input_stream(f"{path}/{NOTE}") as stream:
            given: dict[str, Any] = json.loads(stream.readall())
    except FileNotFoundError:
        return None
    return VersionsNote(**{**given, "versions": tuple((n, at) for n, at in given["versions"])})


def write_note(
    lake: Lake,
    path: str,
    stored: Stored,
    live: Mapping[str, int],
    chosen: Choice,
    deleted: Iterable[str],
    keep: TimeTravel,
    now: datetime,
) -> VersionsNote:
    """Note what the versions take, now that `deleted` files and the chosen log entries are gone."""
    gone = {*deleted, *chosen.log_names}
    data = sum(s for n, s in stored.sizes.items() if not n.startswith(LOG) and n not in gone)
    log_gone = sum(stored.sizes.get(name, 0) for name in chosen.log_names)
    note = VersionsNote(
        live_bytes=sum(live.values()),
        old_bytes=max(0, data - sum(live.values())),
        log_bytes=stored.log_bytes() - log_gone,
        limit_bytes=limit_bytes(keep, live),
        limited_at=_limited_at(read_note(lake, path), chosen, keep, now),
        versions=tuple((each.version, each.at.isoformat()) for each in reversed(chosen.kept)),
    )
    with lake.filesystem().open_output_stream(f"{path}/{NOTE}") as stream:
        stream.write(json.dumps(asdict(note)).encode())
    return note


def _within(
    versions: Sequence[Version],
    live: Mapping[str, int],
    files_of: Callable[[int], Mapping[str, int]],
    limit: int,
) -> tuple[list[Version], dict[str, int], int]:
    """Of versions (newest first), those whose files fit; their files; how many are left out."""
    needed: dict[str, int] = {}
    for number, each in enumerate(versions):
        files = files_of(each.version)
        more = {name: size for name, size in files.items() if name not in live}
        if sum({**needed, **more}.values()) > limit:
            return list(versions[:number]), needed, len(versions) - number
        needed.update(more)
    return list(versions), needed, 0


def _limited_at(
    before: VersionsNote | None, chosen: Choice, keep: TimeTravel, now: datetime
) -> str | None:
    if chosen.left_out:
        return now.isoformat()
    last = before.limited_at if before else None
    if last and now - datetime.fromisoformat(last) > timedelta(days=keep.days):
        return None
    return last


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(timezone.utc)

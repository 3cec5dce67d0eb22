"""Finds changes of the files that decide who sees what: contract files, stream files, `access.toml`.

What each file said is kept in a file of the service, so that a change made while nothing ran is found at
the next start. A change tells its keys; it tells values only of keys that hold words of the format.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from spark_streaming.contract.contract_files import ContractFileError, read_keys
from spark_streaming.contract.names import silver_table
from spark_streaming.streams.stream_contract import FOLDER
from spark_streaming.streams.stream_event import Event

RULES_FILE = "access.toml"
# An editor that writes in place leaves half a file for a moment.
SETTLED_S = 1.0
KEYS_MAX = 200
WORD_CHARS_MAX = 200
# Stands among the keys of a file that cannot be read, or is no TOML: those that it had stay known.
_UNREADABLE = ""
# The keys by which people see more or less. All others may hold values of rows, as `min` and `where`.
_TOLD = frozenset(
    ("classification", "mask", "public", "internal", "personal", "sensitive", "schemas", "writes")
)


class Stamp(NamedTuple):
    """What differs when a file is written or replaced; `changed_ns` cannot be set by a program."""

    changed_ns: int
    written_ns: int
    size: int


@dataclass(frozen=True)
class Known:
    """A file as it was last read: its keys with dots, each with its value as JSON."""

    stamp: tuple[int, ...]
    keys: dict[str, str]


class FileChanges:
    """The files of one home, and what they said before. Not for several threads.

    Args:
        folders: those of contract files.
        home: where `access.toml` is, and below it what is kept.
        clock: seconds since 1970.
    """

    def __init__(
        self, folders: Sequence[Path], home: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._folders = list(folders)
        self._rules = home / RULES_FILE
        self._file = home / "data" / "streams" / "watched_files.json"
        self._clock = clock
        self._known = self._kept()
        self._pending: dict[str, Known] = {}

    def found(self) -> list[Event]:
        """Return a row for each file that has changed since `keep`; none at the very first look."""
        known = self._known or {}
        now: dict[str, Known] = {}
        rows: list[Event] = []
        for path in self._paths():
            before = known.get(str(path))
            after, owner = self._read(path, before)
            if after is None:
                continue
            now[str(path)] = after
            if after is not before:
                rows += self._row(path, before, after, owner)
        for name in sorted(known.keys() - now.keys()):
            if Path(name).exists():
                now[name] = known[name]  # it is being written
            else:
                rows += self._row(Path(name), known[name], None, None)
        self._pending = now
        if self._known is None:
            self.keep()
            return []
        return rows

    def keep(self) -> None:
        """Take what the last `found` saw as known: its rows are in the table."""
        if self._pending == self._known:
            return
        self._known = self._pending
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({name: asdict(one) for name, one in self._known.items()})
        new = self._file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
        os.replace(new, self._file)

    # -- inside

    def _paths(self) -> Iterator[Path]:
        for folder in self._folders:
            yield from sorted(folder.glob("*.toml"))
            yield from sorted((folder / FOLDER).glob("*.toml"))
        if self._rules.exists():
            yield self._rules

    def _read(self, path: Path, before: Known | None) -> tuple[Known | None, str | None]:
        """Return the file as it is now, `before` itself where it is the same; also its owner."""
        try:
            stat = path.stat()
        except OSError:
            return None, None
        stamp = Stamp(stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size)
        if before is not None and tuple(before.stamp) == stamp:
            return before, None
        if 0 <= self._clock() - stat.st_ctime < SETTLED_S:
            return None, None
        try:
            keys = dict(_flat(read_keys(path)[0]))
        except ContractFileError:
            keys = {**(before.keys if before else {}), _UNREADABLE: "true"}
        return Known(stamp, keys), _owner(stat.st_uid)

    def _row(
        self, path: Path, before: Known | None, after: Known | None, owner: str | None
    ) -> list[Event]:
        detail = _difference(before.keys if before else {}, after.keys if after else {})
        if before is not None and after is not None and not detail:
            return []  # a comment, or written again as it was
        verb = "added" if before is None else "removed" if after is None else "changed"
        moment = after.stamp[0] / 1e9 if after else self._clock()
        kind, table = self._meaning(path)
        said = hashlib.sha256(json.dumps([detail, str(path)]).encode()).hexdigest()[:16]
        values: dict[str, Any] = {
            "kind": "change",
            "user_name": owner,
            "client_address": socket.gethostname(),
            "source": "headwater",
            "query_type": f"{kind} {verb}",
            "statement": str(path),
            "tables": table,
            "detail": json.dumps(detail) if detail else None,
        }
        at = after or before
        key = f"change:{said}:{at.stamp[0] if at else 0}"
        return [Event(key, dt.datetime.fromtimestamp(moment, dt.timezone.utc), values)]

    def _meaning(self, path: Path) -> tuple[str, str | None]:
        """Return what a file is, and the table that it is about."""
        if path == self._rules:
            return "rules", None
        if path.parent.name == FOLDER and path.parent.parent in self._folders:
            return "stream", f"silver.{path.stem}"
        schema, _, table = path.name.removesuffix(".toml").partition(".")
        return "contract", f"silver.{silver_table(unquote(schema), unquote(table))}"

    def _kept(self) -> dict[str, Known] | None:
        with suppress(OSError, ValueError, TypeError):
            found = json.loads(self._file.read_text())
            return {n: Known(tuple(one["stamp"]), one["keys"]) for n, one in found.items()}
        return None


def _flat(given: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Give each key of a TOML document with dots, and its value as JSON."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            yield from _flat(value, f"{place}.{name}" if place else str(name))
    elif isinstance(given, list) and any(isinstance(one, Mapping) for one in given):
        for number, value in enumerate(given):
            yield from _flat(value, f"{place}.{number}")
    else:
        yield place, json.dumps(given, default=str)


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Return key → what became of it; its values only where the key is one of _TOLD."""
    found: dict[str, str] = {}
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        told = key.rpartition(".")[2] in _TOLD
        if key == _UNREADABLE:
            found["file"] = "cannot be read" if new else "can be read again"
        elif old is None:
            found[key] = f"added: {_word(new)}" if told else "added"
        elif new is None:
            found[key] = f"removed: {_word(old)}" if told else "removed"
        else:
            found[key] = f"{_word(old)} → {_word(new)}" if told else "changed"
    if len(found) > KEYS_MAX:
        rest = len(found) - KEYS_MAX
        found = {**dict(list(found.items())[:KEYS_MAX]), "…": f"{rest} more keys"}
    return found


def _word(value: str | None) -> str:
    found = json.loads(value or "null")
    return (found if isinstance(found, str) else json.dumps(found))[:WORD_CHARS_MAX]


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

"""The classes that contract files declare, by the tables' names in Trino."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.access.column_memory import HISTORY
from spark_streaming.contract.contract_files import (
    Classification,
    ContractFileError,
    find_files,
    read_file,
)
from spark_streaming.contract.names import ascii_silver_table, silver_table
from spark_streaming.streams.stream_contract import FOLDER, read_stream

Classes = dict[str, Classification]


@dataclass
class Declared:
    """The files' current classes: table → column → class, in lower case; `unreadable`: tables whose file is wrong."""

    classes: dict[str, Classes] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)


class DeclaredClasses:
    """Reads contract files again when they change; `folders` are those of contracts, the first counts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self._read: dict[Path, tuple[tuple[int, int], Classes | None]] = {}

    def stamps(self) -> list[tuple[Path, int, int]]:
        """Return a value that differs when a file is changed, added or removed."""
        found = []
        for folder in self._folders:
            for path in (*folder.glob("*.toml"), *(folder / FOLDER).glob("*.toml")):
                with suppress(OSError):
                    stat = path.stat()
                    found.append((path, stat.st_mtime_ns, stat.st_size))
        return found

    def now(self) -> Declared:
        """Return the files' current classes."""
        found = Declared()
        files, _ = find_files(self._folders)
        for (schema, table), path in files.items():
            names = {silver_table(schema, table), ascii_silver_table(schema, table)}
            self._put(found, names, path, _of_table)
        seen: set[str] = set()
        for folder in self._folders:
            for path in sorted((folder / FOLDER).glob("*.toml")):
                if path.stem not in seen:
                    seen.add(path.stem)
                    self._put(found, {path.stem}, path, _of_stream)
        return found

    def _put(
        self, found: Declared, names: set[str], path: Path, read: Callable[[Path], Classes]
    ) -> None:
        classes = self._classes(path, read)
        for name in names:
            for schema in ("silver", HISTORY):
                if classes is None:
                    found.unreadable.add(f"{schema}.{name.lower()}")
                else:
                    found.classes[f"{schema}.{name.lower()}"] = classes

    def _classes(self, path: Path, read: Callable[[Path], Classes]) -> Classes | None:
        try:
            stat = path.stat()
            stamp = stat.st_mtime_ns, stat.st_size
            known = self._read.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            self._read[path] = stamp, read(path)
        except ContractFileError:
            self._read[path] = stamp, None  # the streaming job names its mistakes
        except OSError:
            return None
        return self._read[path][1]


def _of_table(path: Path) -> Classes:
    return _lower({n: one.classification for n, one in read_file(path).content.columns.items()})


def _of_stream(path: Path) -> Classes:
    columns = read_stream(path).contract.columns
    return _lower({name: one.classification for name, one in columns.items()})


def _lower(classes: Mapping[str, Classification | None]) -> Classes:
    return {name.lower(): kind for name, kind in classes.items() if kind is not None}

"""Freshness targets and conditions of whole tables, from contract files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spark_streaming.contract.contract_files import (
    ContractFileError,
    Refinements,
    TableCondition,
    find_files,
    folders_of,
    read_file,
)
from spark_streaming.contract.names import silver_table

TARGET_S = 60.0  # of a table without a target in its contract
REFRESH_S = 30.0
_NOTHING = Refinements()


class Contracts:
    """Contract files by silver table, refreshed twice a minute; of two files the first folder's counts.

    A wrong file is ignored here: the streaming job reports its mistakes.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        clock: Callable[[], float] = time.monotonic,
        names: Callable[[str, str], str] = silver_table,
    ) -> None:
        self._names = names
        self._folders = list(folders)
        self._clock = clock
        self._refreshed_at = float("-inf")
        self._known: dict[Path, tuple[tuple[int, int], Refinements]] = {}
        self._found: dict[str, Refinements] = {}

    def target_s(self, table: str) -> float:
        """Return the freshness target of a silver table, in seconds."""
        return self._now().get(table, _NOTHING).freshness or TARGET_S

    def conditions(self) -> list[tuple[str, TableCondition]]:
        """List (silver table, condition), in the order of tables and files."""
        return [(table, one) for table, file in self._now().items() for one in file.conditions]

    def _now(self) -> dict[str, Refinements]:
        if self._clock() - self._refreshed_at > REFRESH_S:
            self._refreshed_at = self._clock()
            files, _ = find_files(self._folders)
            self._known = {path: self._read(path) for path in files.values()}
            self._found = {
                self._names(*name): self._known[path][1] for name, path in sorted(files.items())
            }
        return self._found

    def _read(self, path: Path) -> tuple[tuple[int, int], Refinements]:
        """Read a file, if it has changed since the last time."""
        try:
            stat = path.stat()
            state = stat.st_mtime_ns, stat.st_size
            known = self._known.get(path)
            if known is not None and known[0] == state:
                return known
            return state, read_file(path).content
        except ContractFileError:
            return state, _NOTHING
        except OSError:
            return (0, 0), _NOTHING


def contract_folders() -> list[Path]:
    """Return the folders of contract files that the environment names."""
    return folders_of(os.environ.get("HEADWATER_CONTRACTS_PATH", ""))

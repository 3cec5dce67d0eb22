"""What contract files say of a whole table: its freshness target and its conditions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spark_streaming.contract_files import (
    ContractFileError,
    Refinements,
    TableCondition,
    find_files,
    folders_of,
    read_file,
)
from spark_streaming.naming import silver_table

TARGET_S = 60.0  # of a table whose contract names none
LOOK_AGAIN_S = 30.0
_NOTHING = Refinements()


class Contracts:
    """Contract files by silver table, looked up twice a minute. Of two files the first folder's counts.

    A file that is wrong says nothing here; who applies contracts tells its mistakes.
    """

    def __init__(
        self, folders: Sequence[Path], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folders = list(folders)
        self._clock = clock
        self._looked_at = float("-inf")
        self._known: dict[Path, tuple[tuple[int, int], Refinements]] = {}
        self._found: dict[str, Refinements] = {}

    def target_s(self, table: str) -> float:
        """The freshness target of a silver table, in seconds."""
        return self._now().get(table, _NOTHING).freshness or TARGET_S

    def conditions(self) -> list[tuple[str, TableCondition]]:
        """(silver table, condition), in the order of tables and files."""
        return [(table, one) for table, file in self._now().items() for one in file.conditions]

    def _now(self) -> dict[str, Refinements]:
        if self._clock() - self._looked_at > LOOK_AGAIN_S:
            self._looked_at = self._clock()
            files, _ = find_files(self._folders)
            self._known = {path: self._read(path) for path in files.values()}
            self._found = {
                silver_table(*name): self._known[path][1] for name, path in sorted(files.items())
            }
        return self._found

    def _read(self, path: Path) -> tuple[tuple[int, int], Refinements]:
        """A file's content; read anew only where it has changed."""
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
    """The folders of contract files that the stack's environment names."""
    return folders_of(os.environ.get("HEADWATER_CONTRACTS_PATH", ""))

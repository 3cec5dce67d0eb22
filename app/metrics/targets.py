"""The freshness target of each table, as its contract file says it: `freshness = "5s"`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import tomli

from spark_streaming.naming import silver_table

TARGET_S = 60.0  # of a table whose contract names none
LOOK_AGAIN_S = 30.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Targets:
    """Targets by silver table, looked up twice a minute. Of two files the first folder's counts.

    A file that is no contract has no target here; who applies contracts tells its mistakes.
    """

    def __init__(
        self, folders: Sequence[Path], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folders = list(folders)
        self._clock = clock
        self._read_at = float("-inf")
        self._found: dict[str, float] = {}

    def __call__(self, table: str) -> float:
        """The target of a silver table, in seconds."""
        if self._clock() - self._read_at > LOOK_AGAIN_S:
            self._read_at = self._clock()
            self._found = self._read()
        return self._found.get(table, TARGET_S)

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*.toml")):
                schema, _, table = path.name.removesuffix(".toml").partition(".")
                seconds = _freshness(path)
                if table and seconds is not None:
                    found.setdefault(silver_table(unquote(schema), unquote(table)), seconds)
        return found


def contract_folders() -> list[Path]:
    """The folders of contract files that the stack's environment names."""
    return [
        Path(part) for part in os.environ.get("HEADWATER_CONTRACTS_PATH", "").split(":") if part
    ]


def _freshness(path: Path) -> float | None:
    try:
        text = str(tomli.loads(path.read_text()).get("freshness", ""))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError):
        return None
    given = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text)
    if given is None or given.group(2) not in _UNITS:
        return None
    return float(given.group(1)) * _UNITS[given.group(2)] or None

"""The lines that every reader prints, and the file that keeps the last printed version.

    {"version": 7, "timestamp": "2026-11-22T04:46:24.234Z", "change": "insert", "row": {…}}

`change` is Delta's change type (insert, update_preimage, update_postimage, delete), or `read` for a
row that was in the table when a reader began without a version.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.errors import HeadwaterError

READ = "read"


@dataclass(frozen=True)
class Change:
    """One line: the commit's version and time (ms since 1970, UTC), and the row as JSON text.

    The time is None if only a checkpoint of the log is left, which does not have it.
    """

    version: int
    timestamp_ms: int | None
    change: str
    row: str

    def line(self) -> str:
        """Format the line, without a line end."""
        moment = "null"
        if self.timestamp_ms is not None:
            since = datetime.fromtimestamp(self.timestamp_ms / 1000, timezone.utc)
            moment = f'"{instant(since, "ms")}"'
        return (
            f'{{"version": {self.version}, "timestamp": {moment}, '
            f'"change": "{self.change}", "row": {self.row}}}'
        )


def row_text(row: Mapping[str, Any]) -> str:
    """Write a row of Arrow's Python values as JSON; a value without a JSON type becomes text."""
    return json.dumps({name: plain(value) for name, value in row.items()}, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Convert a value to a JSON value without loss.

    Decimals, dates, times, NaN and infinities become text; bytes become base64.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def instant(moment: datetime, unit: str = "us") -> str:
    """Format a time in ISO 8601, with `Z` if it has a zone."""
    spec = {"us": "microseconds", "ms": "milliseconds"}[unit]
    if moment.tzinfo is None:
        return moment.isoformat(timespec=spec)
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return utc.isoformat(timespec=spec) + "Z"


class State:
    """The last version that was printed completely, in a file: `VERSION ADDRESS`."""

    def __init__(self, path: Path | None, table: str) -> None:
        self._path = path
        self._table = table

    def next(self) -> int | None:
        """Return the version to continue with; None if no state was kept.

        Raises: HeadwaterError if the file belongs to another table, or is not a state.
        """
        if self._path is None or not self._path.exists():
            return None
        version, _, table = self._path.read_text(encoding="utf-8").strip().partition(" ")
        if not version.isdigit():
            raise HeadwaterError(
                f"{self._path} is not a reader's state", hint="remove it to start again"
            )
        if table != self._table:
            raise HeadwaterError(
                f"{self._path} is the state of {table}",
                detail=f"this run reads {self._table}",
                hint="give each table a file of its own",
            )
        return int(version) + 1

    def keep(self, version: int) -> None:
        """Keep `version` as the last one printed; replaces the file atomically."""
        if self._path is None:
            return
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        beside.write_text(f"{version} {self._table}\n", encoding="utf-8")
        os.replace(beside, self._path)

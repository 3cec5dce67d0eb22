"""Reads the sign-ins that Trino has refused, from the file in which its plugin `trino/sign-ins` records them."""

from __future__ import annotations

import datetime as dt
import logging
import os
from pathlib import Path

import orjson

from spark_streaming.streams.stream_event import Event

log = logging.getLogger(__name__)
# As in trino/signed/refusals.properties.
FILE = "access/refused_sign_ins.jsonl"


class RefusedSignIns:
    """The file of one home. Not for several threads.

    The plugin opens the file for each line. So one look renames it, and a later one reads it, when nobody
    writes it any more; it is removed when its rows are in the table.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / FILE
        self._taken = self._file.with_suffix(".taken")
        self._is_read = False

    def found(self) -> list[Event]:
        """Return a row for each refusal that was recorded before the last look."""
        try:
            lines = self._taken.read_bytes().splitlines()
        except FileNotFoundError:
            if self._file.exists():
                os.replace(self._file, self._taken)
            return []
        self._is_read = True
        rows: list[Event] = []
        for line in lines:
            try:
                rows += _rows(line)
            except (ValueError, KeyError, TypeError):
                log.warning("a line of refused sign-ins cannot be read; it is left out")
        return rows

    def keep(self) -> None:
        """Forget what the last `found` returned: it is in the table."""
        if self._is_read:
            self._taken.unlink(missing_ok=True)
            self._is_read = False


def _rows(line: bytes) -> list[Event]:
    """Return a refusal's row, and one for those that were only counted before it."""
    said = orjson.loads(line)
    time = dt.datetime.fromisoformat(said["time"].replace("Z", "+00:00"))
    key = f"refused:{said['key']}"
    found = [_row(key, time, said["user"], 1)]
    if said["omitted"]:
        found.insert(0, _row(f"{key}:omitted", time, None, said["omitted"]))
    return found


def _row(key: str, time: dt.datetime, user: str | None, count: int) -> Event:
    values = {
        "kind": "refused",
        "user_name": user,
        "source": "headwater",
        "query_type": "sign-in",
        "queries": count,
        "failed": count,
    }
    return Event(key, time, values)

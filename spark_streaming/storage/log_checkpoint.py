"""Writes the checkpoint of a Delta table's log, from a copy of the entries that it needs.

delta-rs reads them from the store twice, in ranges, whatever it has in memory: 70 to 90 requests for the ten commits of a
checkpoint of silver's, which was half of all requests to the store at 50 changes a second. Whole objects are 12, and a listing.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
from deltalake import DeltaTable

from spark_streaming.storage.lake import Lake

_LOG = "_delta_log"
_LAST = f"{_LOG}/_last_checkpoint"
_ENTRY = re.compile(r"(\d{20})\.json")


@dataclass
class _Tail:
    """The log from its last checkpoint on: names of its objects; `gap`: whether an entry is missing."""

    pointer: bytes
    checkpoint: str
    entries: list[str] = field(default_factory=list)
    gap: bool = False


def write_checkpoint(lake: Lake, path: str) -> None:
    """Write a checkpoint of the newest version of the table at `path`; none where there is one.

    Raises: TableNotFoundError, DeltaError, OSError, errors of obstore.
    """
    objects = lake.objects(path)
    tail = _tail(objects)
    if tail is None or tail.gap:  # no checkpoint yet, or one of a kind that is not one file
        lake.table(path).create_checkpoint()
        return
    if not tail.entries:
        return
    with tempfile.TemporaryDirectory(prefix="headwater-log-") as folder:
        log = Path(folder) / _LOG
        log.mkdir()
        (Path(folder) / _LAST).write_bytes(tail.pointer)
        for name in (tail.checkpoint, *tail.entries):
            (Path(folder) / name).write_bytes(obstore.get(objects, name).bytes())
        DeltaTable(folder).create_checkpoint()
        # The pointer comes last: whoever follows it finds the checkpoint.
        written = log / Path(tail.entries[-1]).with_suffix(".checkpoint.parquet").name
        lake.fence()
        obstore.put(objects, f"{_LOG}/{written.name}", written.read_bytes())
        obstore.put(objects, _LAST, (Path(folder) / _LAST).read_bytes())


def _tail(objects: Any) -> _Tail | None:
    """List the log behind its last checkpoint; None if it has none that is one file."""
    try:
        pointer = bytes(obstore.get(objects, _LAST).bytes())
    except FileNotFoundError:
        return None
    version = int(json.loads(pointer)["version"])
    found = _Tail(pointer, f"{_LOG}/{version:020d}.checkpoint.parquet")
    # The stem alone sorts before all names of this version.
    listed = obstore.list(objects, prefix=_LOG, offset=f"{_LOG}/{version:020d}").collect()
    names = sorted(entry["path"] for entry in listed)
    if found.checkpoint not in names:
        return None
    for name in names:
        entry = _ENTRY.fullmatch(Path(name).name)
        if entry and int(entry[1]) > version:
            version += 1
            found.gap = found.gap or int(entry[1]) != version
            found.entries.append(name)
    return found

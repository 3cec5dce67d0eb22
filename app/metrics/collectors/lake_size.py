"""The object store: size and number of objects of each layer, and the state of each Delta table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow.fs as pa_fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from app.metrics.board import Board
from spark_streaming.contract.names import silver_table
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.data_files import SMALL_FILE_BYTES
from spark_streaming.tables.kept_versions import read_note

TABLES_AT_ONCE = 12
LAYERS = ("bronze", "silver", "silver_log", "ops", "contracts", "other")

Listing = Callable[[], Iterator[tuple[str, int]]]


def folder_listing(folder: Path) -> Iterator[tuple[str, int]]:
    """List (path below `folder`, bytes) of every file of the embedded object store.

    Its S3 listings read a whole folder for each page; the file system costs a tenth of that.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(folder / below))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield path, entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue


def bucket_listing(files: Any) -> Iterator[tuple[str, int]]:
    """List (path in the bucket, bytes) of every object, by S3 listings."""
    selector = pa_fs.FileSelector("", recursive=True, allow_not_found=True)
    for info in files.get_file_info(selector):
        if info.is_file:
            yield info.path, int(info.size or 0)


@dataclass
class Inventory:
    """Sums of one walk over both buckets."""

    size: Counter[str] = field(default_factory=Counter)
    count: Counter[str] = field(default_factory=Counter)
    log_size: Counter[str] = field(default_factory=Counter)
    contract: dict[str, int] = field(default_factory=dict)
    names: Callable[[str, str], str] = silver_table

    def add(self, bucket: str, path: str, size: int) -> None:
        """Add one object. `bucket` is "bronze" or "lake"."""
        layer = "bronze" if bucket == "bronze" else self._lake_layer(path, size)
        self.size[layer] += size
        self.count[layer] += 1

    def _lake_layer(self, path: str, size: int) -> str:
        top, _, rest = path.partition("/")
        table, _, below = rest.partition("/")
        if top == "silver":
            if below.startswith("_delta_log/"):
                self.log_size[table] += size
                return "silver_log"
            return "silver"
        if top == "contracts":
            version = below.removesuffix(".json")
            schema, dot, name = table.partition(".")
            if dot and version.isdigit():
                silver = self.names(unquote(schema), unquote(name))
                self.contract[silver] = max(self.contract.get(silver, 0), int(version))
        return top if top in LAYERS else "other"


class StoreCollector:
    """Walks over all objects. It is the most expensive collector, so its period grows the most."""

    name = "store"
    period_s = 60.0
    share = 0.0018

    def __init__(
        self,
        listings: dict[str, Listing],
        board: Board,
        names: Callable[[str, str], str] = silver_table,
    ) -> None:
        self._names = names
        self._listings = listings
        self._board = board
        self.tables: list[str] = []

    def collect(self) -> None:
        found = Inventory(names=self._names)
        for bucket, listing in self._listings.items():
            for path, size in listing():
                found.add(bucket, path, size)
        board = self._board
        board.replace("headwater_store_bytes", {(n,): float(found.size[n]) for n in LAYERS})
        board.replace("headwater_store_objects", {(n,): float(found.count[n]) for n in LAYERS})
        logs = {(name,): float(size) for name, size in found.log_size.items()}
        board.replace("headwater_delta_log_bytes", logs)
        versions = {(name,): float(n) for name, n in found.contract.items()}
        board.replace("headwater_contract_version", versions)
        self.tables = sorted(found.log_size)

    def reset(self) -> None:
        """Do nothing: no connection is kept open."""


class DeltaCollector:
    """Files, size and log of silver's tables, a few tables at a time, in turn."""

    name = "delta"
    period_s = 15.0
    share = 0.002
    _FAMILIES = ("files", "bytes", "small_files", "version", "uncheckpointed_commits", "old_bytes")

    def __init__(self, lake: Lake, tables: Callable[[], list[str]], board: Board) -> None:
        self._lake = lake
        self._files: Any = lake.filesystem()
        self._tables = tables
        self._board = board
        self._handles: dict[str, DeltaTable] = {}
        self._found: dict[str, tuple[float, ...]] = {}
        self._next = 0

    def collect(self) -> None:
        known = self._tables()
        self._handles = {name: h for name, h in self._handles.items() if name in known}
        self._found = {name: v for name, v in self._found.items() if name in known}
        turn = [
            known[(self._next + i) % len(known)] for i in range(min(len(known), TABLES_AT_ONCE))
        ]
        self._next = (self._next + len(turn)) % max(1, len(known))
        for name in turn:
            self._found[name] = self._measure(name)
        for index, family in enumerate(self._FAMILIES):
            values = {(name,): found[index] for name, found in self._found.items()}
            self._board.replace(f"headwater_delta_{family}", values)

    def _measure(self, name: str) -> tuple[float, ...]:
        path = f"silver/{name}"
        handle = self._handles.get(name)
        try:
            if handle is None:
                handle = self._handles[name] = self._lake.table(path)
            else:
                handle.update_incremental()
        except DeltaError:
            self._handles.pop(name, None)  # its log was cleaned, or the table was created again
            handle = self._handles[name] = self._lake.table(path)
        sizes = handle.get_add_actions(flatten=True)["size_bytes"].to_pylist()
        version = int(handle.version())
        small = sum(size < SMALL_FILE_BYTES for size in sizes)
        note = read_note(self._lake, path)
        old = note.old_bytes if note is not None else 0
        return len(sizes), sum(sizes), small, version, version - self._checkpoint(path), old

    def _checkpoint(self, path: str) -> int:
        try:
            with self._files.open_input_stream(f"{path}/_delta_log/_last_checkpoint") as stream:
                return int(orjson.loads(stream.readall())["version"])
        except FileNotFoundError:
            return -1

    def reset(self) -> None:
        self._handles.clear()

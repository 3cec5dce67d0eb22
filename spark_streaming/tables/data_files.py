"""The data files of a silver table at one version, kept in memory by the table's only writer."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

Range = tuple[Any, Any]
# A merge rewrites every file that holds a touched row: small files keep that cheap.
# 5M rows: one 88 MB file 1.4-2.6 s a merge, twenty of 4.4 MB 0.74 s.
TARGET_FILE_BYTES = 8 << 20
# Smaller files are joined once there are many.
SMALL_FILE_BYTES = TARGET_FILE_BYTES // 2
# Python orders their values as the statistics in the log do.
_ORDERED = (pa.types.is_integer, pa.types.is_string)


def is_ordered(kind: pa.DataType) -> bool:
    """Whether statistics of a column of this type say which files can hold a value."""
    return any(is_kind(kind) for is_kind in _ORDERED)


@dataclass(frozen=True)
class DataFile:
    """A file of a table.

    Args:
        path: below the table's folder. size: in bytes.
        ranges: key column → its least and greatest value in the file; a column that is absent may hold any value.
    """

    path: str
    size: int
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def may_hold(self, keys: Mapping[str, Sequence[Any]]) -> bool:
        """Whether the file can have a row of one of the keys; `keys`: key column → its values, sorted."""
        for name, values in keys.items():
            bounds = self.ranges.get(name)
            if bounds is None:
                continue
            low, high = bounds
            first = bisect_left(values, low)
            if first == len(values) or values[first] > high:
                return False
        return True


def files_of(table: DeltaTable, key: Iterable[str]) -> dict[str, DataFile]:
    """Read the files of a Delta table from its log, by path."""
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = set(actions.column_names)
    paths, sizes = actions["path"].to_pylist(), actions["size_bytes"].to_pylist()
    bounds = {
        name: list(
            zip(actions[f"min.{name}"].to_pylist(), actions[f"max.{name}"].to_pylist(), strict=True)
        )
        for name in key
        if {f"min.{name}", f"max.{name}"} <= columns
    }
    found = {}
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        ranges = {name: some[index] for name, some in bounds.items() if None not in some[index]}
        found[path] = DataFile(path, size, ranges)
    return found


class RowCache:
    """Rows of data files that were read or written lately; files never change.

    Args:
        bytes_max: of all rows together; those that were not used for longest go first.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rows: OrderedDict[str, pa.Table] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, address: str) -> pa.Table | None:
        """The rows of a file; None if they are not kept."""
        with self._lock:
            if address not in self._rows:
                return None
            self._rows.move_to_end(address)
            return self._rows[address]

    def put(self, address: str, rows: pa.Table) -> None:
        """Keep the rows of a file, unless they alone are half of the room."""
        if rows.nbytes > self._bytes_max // 2:
            return
        with self._lock:
            self._drop(address)
            self._rows[address] = rows
            self._bytes += rows.nbytes
            while self._bytes > self._bytes_max:
                self._drop(next(iter(self._rows)))

    def drop(self, address: str) -> None:
        """Forget the rows of a file."""
        with self._lock:
            self._drop(address)

    def _drop(self, address: str) -> None:
        rows = self._rows.pop(address, None)
        if rows is not None:
            self._bytes -= rows.nbytes

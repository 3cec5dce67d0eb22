"""Folded changes as the Arrow table that the engines merge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from spark_streaming.contract import Contract
from spark_streaming.events import Change, Changes, RawEvent, RawKey, Reject
from spark_streaming.position import Position
from spark_streaming.types import arrow_type

# A key as silver holds it: Python values in the contract's key order.
SilverKey = tuple[Any, ...]


class InSilver(NamedTuple):
    """A value that stands in silver, in the row of `key`, whose columns image `image` holds."""

    key: RawKey
    image: int


# Where a value is: the number of an image row, or in silver.
Cell = int | InSilver


# Rows whose last events are in quarantine: key -> column -> the offset from which on silver does
# not have the column's value.
HeldColumns = Mapping[RawKey, Mapping[str, int]]


@dataclass(frozen=True)
class Origin:
    """Which events folded rows come from; it stays in the process that folded them.

    Args:
        changes: for each row, the last change that made it.
        images: for each row, the number of its image.
        cells: key -> column number -> where a value is that the row's last event left out.
    """

    changes: list[Change]
    images: list[int]
    cells: Mapping[RawKey, Mapping[int, Cell]] = field(default_factory=dict)

    def place(self, row: int, column: int) -> int | None:
        """The image that holds a row's value of a column; None where the value is in silver."""
        cell: Cell = self.images[row]
        if self.cells:
            cell = self.cells.get(self.changes[row].key, {}).get(column, cell)
        return cell if isinstance(cell, int) else None

    def events(self, row: int, changes: Sequence[Change]) -> list[RawEvent]:
        """The events that a row needs to be made again, in order; its last one is the last."""
        last = self.changes[row]
        cells = self.cells.get(last.key, {}) if self.cells else {}
        return events_of(last, cells.values(), changes)


def events_of(last: Change, cells: Iterable[Cell], changes: Sequence[Change]) -> list[RawEvent]:
    """The event of `last`, after those whose images its cells take values from."""
    images = {cell for cell in cells if isinstance(cell, int)}
    earlier = [c.event for c in changes if images and c.after in images and c is not last]
    return [*(event for event in earlier if event != last.event), last.event]


class Truncation(NamedTuple):
    """The last TRUNCATE of a batch."""

    lsn: int
    order: Position

    def removes(self, change: Change) -> bool:
        """Whether it removed what `change` made.

        TRUNCATE holds the table alone until it commits, so LSNs tell, for streamed changes.
        """
        if change.op == "r":
            return change.lsn < self.lsn and change.order < self.order
        return change.lsn < self.lsn


def truncation(changes: Iterable[Change]) -> Truncation | None:
    """The last TRUNCATE among the changes, in whichever partition it came."""
    found = [Truncation(change.lsn, change.order) for change in changes if change.op == "t"]
    return max(found, default=None)


def in_stream_order(changes: Sequence[Change]) -> Sequence[Change]:
    """The changes of all partitions in the order in which the source streamed them.

    Each partition is in that order already; a snapshot row stands after what came before it.
    """
    partitions = {change.event.partition for change in changes}
    if len(partitions) < 2:
        return changes
    return sorted(changes, key=lambda c: (c.order, c.event.partition, c.event.offset))


def build_rows(
    changes: Changes,
    contract: Contract,
    latest: dict[RawKey, Change],
    cells: dict[RawKey, dict[int, Cell]],
    moved: Callable[[list[SilverKey]], Mapping[SilverKey, Mapping[str, Any]]],
    present: Callable[[list[SilverKey]], Collection[SilverKey]] | None,
    rejects: list[Reject],
    held: HeldColumns,
) -> pa.Table:
    """One row per key: see `Folded.rows`; rows that cannot be completed go to `rejects`."""
    silver = _SilverValues(changes.images, contract)
    if cells:
        if held:
            _drop_held(changes, contract, latest, cells, rejects, held)
        silver.fetch(cells, moved)
        _drop_incomplete(changes, contract, latest, cells, silver, present, rejects)
    final = list(latest.values())
    images = [change.after for change in final]
    columns, keeps = [], {}
    for number, column in enumerate(contract.columns):
        places: list[int | None] = list(images)
        keep = [False] * len(final)
        for row, key in enumerate(latest) if cells else ():
            cell = cells.get(key, {}).get(number)
            if isinstance(cell, InSilver):
                keep[row] = cell.key == key
                places[row] = None if keep[row] else silver.place(cell)
            elif cell is not None:
                places[row] = cell
        source = silver.column(column.name, changes.images.column(number))
        columns.append(source.take(pa.array(places, pa.int64())))
        if any(keep):
            keeps[f"_keep_{column.name}"] = pa.array(keep)
    return with_metadata(
        pa.Table.from_arrays(columns, schema=contract.data_schema),
        final,
        ["d" if change.op == "d" else "u" for change in final],
        keeps,
    )


def with_metadata(
    data: pa.Table,
    changes: Sequence[Change],
    operations: Sequence[str],
    keeps: Mapping[str, pa.Array],
) -> pa.Table:
    """The data columns, then `_lsn`, `_committed_at`, `_op`, `_guard_lsn` and keep flags."""
    committed = pa.array([change.committed_us for change in changes], pa.int64())
    table = data
    for name, values in (
        ("_lsn", pa.array([change.lsn for change in changes], pa.int64())),
        ("_committed_at", committed.cast(pa.timestamp("us", "UTC"))),
        ("_op", pa.array(operations, pa.string())),
        ("_guard_lsn", pa.array([change.guard for change in changes], pa.int64())),
        *keeps.items(),
    ):
        table = table.append_column(name, values)
    return table


class _SilverValues:
    """The values that rows take from other rows of silver: those whose key changed."""

    def __init__(self, images: pa.Table, contract: Contract) -> None:
        self._images = images
        self._contract = contract
        self._found: list[Mapping[str, Any]] = []
        self._place: dict[RawKey, int] = {}

    def keys(self, cells: Sequence[InSilver]) -> list[SilverKey]:
        """The keys as silver holds them."""
        images = self._images.select(list(self._contract.key)).take([c.image for c in cells])
        return [tuple(row.values()) for row in images.to_pylist()]

    def fetch(
        self,
        cells: dict[RawKey, dict[int, Cell]],
        moved: Callable[[list[SilverKey]], Mapping[SilverKey, Mapping[str, Any]]],
    ) -> None:
        wanted: dict[RawKey, InSilver] = {}
        for key, row in cells.items():
            for cell in row.values():
                if isinstance(cell, InSilver) and cell.key != key:
                    wanted[cell.key] = cell
        if not wanted:
            return
        keys = self.keys(list(wanted.values()))
        rows = moved(keys)
        for raw, key in zip(wanted, keys, strict=True):
            if key in rows:
                self._place[raw] = self._images.num_rows + len(self._found)
                self._found.append(rows[key])

    def has(self, cell: InSilver) -> bool:
        return cell.key in self._place

    def place(self, cell: InSilver) -> int:
        return self._place[cell.key]

    def column(self, name: str, images: pa.ChunkedArray) -> pa.ChunkedArray:
        """The images' column, followed by the values found in silver."""
        if not self._found:
            return images
        target = arrow_type(self._contract.by_name[name])
        values = pa.array([row.get(name) for row in self._found], target)
        return pa.chunked_array([*images.chunks, values], target)


def _drop_held(
    changes: Changes,
    contract: Contract,
    latest: dict[RawKey, Change],
    cells: dict[RawKey, dict[int, Cell]],
    rejects: list[Reject],
    held: HeldColumns,
) -> None:
    """Reject the rows that would take a value from silver which an event in quarantine replaced."""
    for key in list(cells):
        offset = latest[key].event.offset
        for number, cell in cells[key].items():
            name = contract.columns[number].name
            since = held.get(cell.key, {}).get(name) if isinstance(cell, InSilver) else None
            if since is not None and since < offset:
                reason = (
                    f"the event leaves out the unchanged value of column {name}, "
                    f"which the event at offset {since} holds: that one is in quarantine"
                )
                _reject_row(changes, latest, cells, key, reason, rejects)
                break


def _drop_incomplete(
    changes: Changes,
    contract: Contract,
    latest: dict[RawKey, Change],
    cells: dict[RawKey, dict[int, Cell]],
    silver: _SilverValues,
    present: Callable[[list[SilverKey]], Collection[SilverKey]] | None,
    rejects: list[Reject],
) -> None:
    """Reject the rows whose left-out values are nowhere: never write NULL for a value."""
    kept: dict[RawKey, InSilver] = {}
    lost: dict[RawKey, int] = {}
    for key, row in cells.items():
        for number, cell in row.items():
            if isinstance(cell, InSilver):
                if cell.key == key:
                    kept[key] = cell
                elif not silver.has(cell):
                    lost[key] = number
    if kept and present is not None:
        keys = silver.keys(list(kept.values()))
        there = set(present(keys))
        for raw, key in zip(kept, keys, strict=True):
            if key not in there:
                lost[raw] = next(iter(cells[raw]))
    for key, number in lost.items():
        reason = (
            f"the event leaves out the unchanged value of column {contract.columns[number].name}, "
            f"and silver has no row to take it from"
        )
        _reject_row(changes, latest, cells, key, reason, rejects)


def _reject_row(
    changes: Changes,
    latest: dict[RawKey, Change],
    cells: dict[RawKey, dict[int, Cell]],
    key: RawKey,
    reason: str,
    rejects: list[Reject],
) -> None:
    """Reject a row with all events of the batch that it needs to be made again."""
    events = events_of(latest.pop(key), cells.pop(key).values(), changes.changes)
    rejects += [Reject(event, "unavailable-value", reason) for event in events]

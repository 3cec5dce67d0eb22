"""Builds the Arrow table that the engines merge from folded changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import Change, Changes, RawEvent, RawKey, Reject
from spark_streaming.events.position import Position
from spark_streaming.fold.row_lookup import keys_in

# A key as silver holds it: Python values in the contract's key order.
SilverKey = tuple[Any, ...]


# Reads rows of silver by key: key -> column -> value.
ReadRows = Callable[[list[SilverKey]], Mapping[SilverKey, Mapping[str, Any]]]
# Returns which of these keys silver has.
FindKeys = Callable[[list[SilverKey]], Collection[SilverKey]]


class InSilver(NamedTuple):
    """A value in silver, in the row of `key`; image `image` has the key's columns."""

    key: RawKey
    image: int


# The place of a value: the number of an image row, or a row of silver.
Cell = int | InSilver


# Rows with events in quarantine: key -> column -> the offset from which on silver lacks the
# column's value.
QuarantinedColumns = Mapping[RawKey, Mapping[str, int]]


@dataclass(frozen=True)
class Origin:
    """The events that folded rows come from; it stays in the process that folded them.

    Args:
        changes: for each row, its last change.
        images: for each row, the number of its image.
        cells: key -> column number -> the place of a value that the row's last event left out.
    """

    changes: list[Change]
    images: list[int]
    cells: Mapping[RawKey, Mapping[int, Cell]] = field(default_factory=dict)

    def place(self, row: int, column: int) -> int | None:
        """Return the image that holds a row's value of a column; None if the value is in silver."""
        cell: Cell = self.images[row]
        if self.cells:
            cell = self.cells.get(self.changes[row].key, {}).get(column, cell)
        return cell if isinstance(cell, int) else None

    def events(self, row: int, changes: Sequence[Change]) -> list[RawEvent]:
        """Return the events from which a row can be made again, in order."""
        last = self.changes[row]
        cells = self.cells.get(last.key, {}) if self.cells else {}
        return events_of(last, cells.values(), changes)


def events_of(last: Change, cells: Iterable[Cell], changes: Sequence[Change]) -> list[RawEvent]:
    """Return the event of `last`, after the events whose images `cells` take values from."""
    images = {cell for cell in cells if isinstance(cell, int)}
    previous = [c.event for c in changes if images and c.after in images and c is not last]
    return [*(event for event in previous if event != last.event), last.event]


class Truncation(NamedTuple):
    """The last TRUNCATE of a batch."""

    lsn: Lsn
    order: Position

    def removes(self, change: Change) -> bool:
        """Whether the TRUNCATE removed the row of `change`.

        TRUNCATE locks the table until it commits, so LSNs decide for streamed changes.
        """
        if change.op == "r":
            return change.lsn < self.lsn and change.order < self.order
        return change.lsn < self.lsn


def truncation(changes: Iterable[Change]) -> Truncation | None:
    """Return the last TRUNCATE among the changes of all partitions."""
    truncations = [Truncation(change.lsn, change.order) for change in changes if change.op == "t"]
    return max(truncations, default=None)


def in_stream_order(changes: Sequence[Change]) -> Sequence[Change]:
    """Return the changes of all partitions in the order in which the source streamed them.

    Each partition is in that order already; a snapshot row stays after the events before it.
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
    read_rows: ReadRows,
    find_keys: FindKeys | None,
    rejects: list[Reject],
    quarantined: QuarantinedColumns,
) -> pa.Table:
    """Build one row per key, as in `Folded.rows`; rows that cannot be completed are rejected."""
    silver = _SilverValues(changes.images, contract)
    if cells:
        if quarantined:
            _drop_quarantined(changes, contract, latest, cells, rejects, quarantined)
        silver.fetch(cells, read_rows)
        _drop_incomplete(changes, contract, latest, cells, silver, find_keys, rejects)
    final = list(latest.values())
    images = [change.after for change in final]
    whole = pa.array(images, pa.int64())
    keys = enumerate(latest) if cells else ()
    gaps = [(row, key, cells[key]) for row, key in keys if key in cells]
    columns, keeps = [], {}
    for number, column in enumerate(contract.columns):
        source = silver.column(column.name, changes.images.column(number))
        left_out = [(row, key, found[number]) for row, key, found in gaps if number in found]
        if not left_out:
            columns.append(source.take(whole))
            continue
        places: list[int | None] = list(images)
        keep = [False] * len(final)
        for row, key, cell in left_out:
            if isinstance(cell, InSilver):
                keep[row] = cell.key == key
                places[row] = None if keep[row] else silver.place(cell)
            else:
                places[row] = cell
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
    """Append `_lsn`, `_committed_at`, `_op`, `_guard_lsn` and keep flags to the data columns."""
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
    """Values that rows with a changed key take from their old rows in silver."""

    def __init__(self, images: pa.Table, contract: Contract) -> None:
        self._images = images
        self._contract = contract
        self._rows: list[Mapping[str, Any]] = []
        self._place: dict[RawKey, int] = {}

    def keys(self, cells: Sequence[InSilver]) -> list[SilverKey]:
        """Return the keys as silver holds them."""
        names = list(self._contract.key)
        return keys_in(self._images.select(names).take([c.image for c in cells]), names)

    def fetch(self, cells: dict[RawKey, dict[int, Cell]], read_rows: ReadRows) -> None:
        """Read the old rows of all cells that name another key's row."""
        wanted: dict[RawKey, InSilver] = {}
        for key, row in cells.items():
            for cell in row.values():
                if isinstance(cell, InSilver) and cell.key != key:
                    wanted[cell.key] = cell
        if not wanted:
            return
        keys = self.keys(list(wanted.values()))
        rows = read_rows(keys)
        for raw, key in zip(wanted, keys, strict=True):
            if key in rows:
                self._place[raw] = self._images.num_rows + len(self._rows)
                self._rows.append(rows[key])

    def has(self, cell: InSilver) -> bool:
        return cell.key in self._place

    def place(self, cell: InSilver) -> int:
        return self._place[cell.key]

    def column(self, name: str, images: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the images' column, followed by the values from silver."""
        if not self._rows:
            return images
        target = self._contract.by_name[name].arrow_type
        values = pa.array([row.get(name) for row in self._rows], target)
        return pa.chunked_array([*images.chunks, values], target)


def _drop_quarantined(
    changes: Changes,
    contract: Contract,
    latest: dict[RawKey, Change],
    cells: dict[RawKey, dict[int, Cell]],
    rejects: list[Reject],
    quarantined: QuarantinedColumns,
) -> None:
    """Reject rows that would take a value from silver that an event in quarantine replaced."""
    for key in list(cells):
        offset = latest[key].event.offset
        for number, cell in cells[key].items():
            name = contract.columns[number].name
            if not isinstance(cell, InSilver):
                continue
            since = quarantined.get(cell.key, {}).get(name)
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
    find_keys: FindKeys | None,
    rejects: list[Reject],
) -> None:
    """Reject rows whose left-out values are nowhere: NULL is never written for a value."""
    kept: dict[RawKey, InSilver] = {}
    lost: dict[RawKey, int] = {}
    for key, row in cells.items():
        for number, cell in row.items():
            if isinstance(cell, InSilver):
                if cell.key == key:
                    kept[key] = cell
                elif not silver.has(cell):
                    lost[key] = number
    if kept and find_keys is not None:
        keys = silver.keys(list(kept.values()))
        in_silver = set(find_keys(keys))
        for raw, key in zip(kept, keys, strict=True):
            if key not in in_silver:
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
    """Reject a row with all events of the batch from which it can be made again."""
    events = events_of(latest.pop(key), cells.pop(key).values(), changes.changes)
    rejects += [Reject(event, "unavailable-value", reason) for event in events]

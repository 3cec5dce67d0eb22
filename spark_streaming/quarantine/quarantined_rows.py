"""Remembers which rows have events in quarantine, because later events depend on it.

An event that silver does not have matters in two ways:
1. A later event may leave out a large value that it did not change (TOAST). If the event in
quarantine changed that value, silver's own value is wrong for the row.
2. If silver takes a later event of the same row, it supersedes the one in quarantine, which must
then never be replayed. After the row is deleted silver shows no trace of this, so it is noted
when the later event passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.contract_versions import History
from spark_streaming.events.event import Change, Place, RawEvent, RawKey
from spark_streaming.events.layout import is_placeholder, layout_of
from spark_streaming.events.position import parse_sequence
from spark_streaming.events.row_images import Refused, checked
from spark_streaming.fold.change_rows import QuarantinedColumns


class Entry(NamedTuple):
    """One event in quarantine.

    Args:
        lsn: the event's LSN; 0 if it cannot be read.
        columns: the large columns whose values it holds (all of them if it cannot be read).
    """

    place: Place
    lsn: Lsn
    columns: frozenset[str]


class QuarantinedRows:
    """The events of one table that are in quarantine, by the key of their row."""

    def __init__(self) -> None:
        self._entries: dict[RawKey, dict[Place, Entry]] = {}
        self._columns: dict[RawKey, dict[str, int]] | None = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def __iter__(self) -> Iterator[Entry]:
        for entries in self._entries.values():
            yield from entries.values()

    def add(self, events: Iterable[RawEvent], contract: Contract) -> None:
        """Add events that went to quarantine."""
        for event in events:
            key, entry = describe(event, contract)
            self._entries.setdefault(key, {})[entry.place] = entry
            self._columns = None

    def remove(self, places: Iterable[Place]) -> None:
        """Forget entries that are closed."""
        gone = set(places)
        if not gone:
            return
        self._columns = None
        for key, entries in list(self._entries.items()):
            left = {place: entry for place, entry in entries.items() if place not in gone}
            if left:
                self._entries[key] = left
            else:
                del self._entries[key]

    def columns(self) -> QuarantinedColumns:
        """Key → column → the first offset with a value that silver does not have, for `fold`."""
        if self._columns is None:
            self._columns = {}
            for key, entries in self._entries.items():
                columns: dict[str, int] = {}
                for entry in entries.values():
                    for name in entry.columns:
                        columns[name] = min(entry.place.offset, columns.get(name, 2**63))
                if columns:
                    self._columns[key] = columns
        return self._columns

    def closed_by(self, changes: Sequence[Change], floor_lsn: Lsn | None = None) -> set[Place]:
        """The entries that these changes supersede; silver takes the changes.

        Args:
            changes: the last one of each row.
            floor_lsn: the LSN of a TRUNCATE or a new snapshot, which removes everything older.
        """
        closed: set[Place] = set()
        if not self._entries:
            return closed
        for change in changes:
            for entry in self._entries.get(change.key, {}).values():
                if _is_newer(change, entry):
                    closed.add(entry.place)
        if floor_lsn is not None:
            closed |= {entry.place for entry in self if entry.lsn < floor_lsn}
        return closed


def place_of(event: RawEvent) -> Place:
    """An event's coordinates."""
    return Place(event.topic, event.partition, event.offset)


def describe(event: RawEvent, contract: Contract) -> tuple[RawKey, Entry]:
    """An event's key, as in `Change`, and its entry. The key of a keyless row is its place."""
    place = place_of(event)
    try:
        document = orjson.loads(event.value or b"")
        source, after = document["source"], document.get("after")
        lsn = source["lsn"]
        if lsn is None:
            lsn = parse_sequence(source["sequence"])[1]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        document, lsn, after = {}, 0, None
    large = [column for column in contract.columns if column.toastable]
    if document and isinstance(after, dict):
        found = frozenset(c.name for c in large if not is_placeholder(after.get(c.source_name)))
    elif document.get("op") in ("d", "t"):
        found = frozenset()
    else:
        found = frozenset(c.name for c in large)
    key = None if contract.is_keyless else _key(event, document, contract)
    return place if key is None else key, Entry(place, Lsn(int(lsn or 0)), found)


def _key(event: RawEvent, document: dict[str, Any], contract: Contract) -> RawKey | None:
    layout = layout_of(contract)
    names = set(layout.key_names)
    try:
        found = orjson.loads(event.key) if event.key else None
    except orjson.JSONDecodeError:
        found = None
    history = History(contract) if contract.previous_versions else None
    for image in (found, document.get("after"), document.get("before")):
        if history is not None and isinstance(image, dict):
            image = history.key(image, names)
        if isinstance(image, dict) and image.keys() >= names:
            values: list[Any] = [None] * layout.width
            for name, number in zip(layout.key_names, layout.key_numbers, strict=True):
                values[number] = image[name]
            try:
                return checked(layout.key_of(values))
            except Refused:
                return None
    return None


def _is_newer(change: Change, entry: Entry) -> bool:
    # The events of a key come through one partition, in order. A snapshot's row is the row as it
    # was at its LSN, whenever it comes.
    if change.op != "r" and change.event.partition == entry.place.partition:
        return change.event.offset > entry.place.offset
    return change.lsn >= entry.lsn and place_of(change.event) != entry.place

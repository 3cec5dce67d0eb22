"""Which version of a contract an event was written under, and old events in the newest's terms.

Postgres changes a table under a lock that nobody else has, so in the stream all events of the old
version come before all of the new one. Where the source notes its definitions (an event trigger of
Headwater's), the border is an exact log position for all that is streamed. Else, and for rows that
a snapshot read, it is told, in this order, by
1. the log position: the catalog had the new version at `valid_from_lsn`;
2. the columns that an event has, where the two versions differ in them: exactly;
3. the log position: the catalog still had the old version at `valid_after_lsn`;
4. between the two, the transaction: one that began to write before the change's did is older.
   (A transaction that wrote to other tables first, and to this one after the change, is taken
   for older. Only types without a trace in the events, as float4[] to float8[], depend on it.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import orjson

from spark_streaming.ahead import RowReader, streamed_fields
from spark_streaming.contract import Contract
from spark_streaming.events import RawEvent
from spark_streaming.pgtext import array_items
from spark_streaming.position import parse_sequence
from spark_streaming.types import Column

Document = Mapping[str, Any]
_XID_BITS = 32
_STREAMED = frozenset("cudt")  # operations that come from the log, where it has them
_SPECIAL_FLOATS = frozenset({"NaN", "Infinity", "-Infinity"})


@dataclass(frozen=True)
class Boundary:
    """Where a newer version of a contract begins in the stream.

    Args:
        older, newer: the columns that the events of each have, by their names in the source.
        older_key: those of the older version's message keys; empty where it has no key.
        after_lsn, by_lsn, xid: see the module.
        type_xid: the transaction that gave a column another type; None: no column has one.
        begins_at_lsn: the first log position of the newer version, where that is known.
        ahead: (partition, offset) of a snapshot's rows that are behind an exact border all the same:
            their values fit no older type.
        known: partition -> an offset that is behind the border: its value fits no older type.
    """

    older: frozenset[str]
    newer: frozenset[str]
    older_key: frozenset[str]
    left_out: frozenset[str]
    after_lsn: int
    by_lsn: int
    xid: int | None
    type_xid: int | None
    begins_at_lsn: int | None = None
    ahead: frozenset[tuple[int, int]] = frozenset()
    known: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def between(cls, older: Contract, newer: Contract) -> Boundary:
        """The border between two versions that follow each other."""
        return cls(
            event_columns(older),
            event_columns(newer),
            frozenset(older.by_name[name].source_name for name in older.key),
            frozenset(older.left_out) | frozenset(newer.left_out),
            newer.valid_after_lsn,
            newer.valid_from_lsn,
            newer.xid,
            _type_xid(older, newer),
            newer.begins_at_lsn,
        )

    def is_passed(self, document: Document, key: Mapping[str, Any] | None = None) -> bool:
        """Whether an event was written under the newer version.

        key: its message key; None where it has none, or where it is not known here.
        """
        lsn, xid = place_of(document)
        if lsn is not None and self.begins_at_lsn is not None and document.get("op") in _STREAMED:
            return lsn >= self.begins_at_lsn  # whatever the connector calls its columns (`ahead`)
        if key is not None and self.older_key and key.keys() != self.older_key:
            return True
        image = document.get("after") or document.get("before")
        if lsn is not None and lsn > self.by_lsn:
            return True  # also where a later change brought the older names back
        if self.older != self.newer and isinstance(image, dict):
            if (image.keys() - self.left_out) != self.older:
                # Perhaps neither's: a version in between, which the catalog was not asked about.
                return True
            # So was a change of a type that came before the one of the columns.
            early = lsn is not None and lsn <= self.after_lsn
            return not early and xid is not None and _is_from(xid, self.type_xid)
        # The change's own transaction writes before it is there for others.
        if lsn is not None and lsn <= self.after_lsn and xid != self.xid:
            return False
        first = self.type_xid if self.type_xid is not None else self.xid
        return xid is None or first is None or _is_from(xid, first)


def _is_from(xid: int, first: int | None) -> bool:
    """Whether a transaction is `first`, or began to write after it; the counter wraps."""
    return first is not None and (xid - first) % (1 << _XID_BITS) < 1 << (_XID_BITS - 1)


def _type_xid(older: Contract, newer: Contract) -> int | None:
    if older.oid != newer.oid:
        return None
    before = {c.attnum: (c.kind, c.precision, c.scale) for c in older.columns}
    changed = [
        c.xid
        for c in newer.columns
        if c.xid is not None
        and c.attnum in before
        and before[c.attnum] != (c.kind, c.precision, c.scale)
    ]
    return min(changed, default=None)


def event_columns(contract: Contract) -> frozenset[str]:
    """The columns that events under a contract have, by their names in the source."""
    return frozenset(c.source_name for c in contract.columns if not c.dropped)


def place_of(document: Document) -> tuple[int | None, int | None]:
    """An event's log position and transaction, as far as it tells them."""
    source = document.get("source") or {}
    lsn, xid = source.get("lsn"), source.get("txId")
    if lsn is None and source.get("sequence"):
        lsn = parse_sequence(source["sequence"])[1]
    return lsn, xid if isinstance(xid, int) else None


def split_at(events: list[RawEvent], boundary: Boundary) -> tuple[list[RawEvent], list[RawEvent]]:
    """One topic's events before and behind a border.

    Within a partition nothing is before the border once it was passed; but a snapshot's rows may
    be ahead of the log, and where that has exact positions they stand for themselves. What is no
    JSON, or no row's event, goes with the event before it.
    """
    older: list[RawEvent] = []
    newer: list[RawEvent] = []
    passed: set[int] = set()
    for event in sorted(events, key=lambda event: (event.partition, event.offset)):
        side = newer if event.partition in passed else older
        if event.partition not in passed and _passes(event, boundary):
            side = newer
            if boundary.begins_at_lsn is None or not is_snapshot_row(event):
                passed.add(event.partition)
        side.append(event)
    return older, newer


def moved(boundary: Boundary, unfit: Iterable[RawEvent]) -> Boundary:
    """A border with events behind it whose values fit no older type."""
    if boundary.begins_at_lsn is not None:
        # Of what is streamed the log positions tell: such a value breaks its own contract.
        rows = {(event.partition, event.offset) for event in unfit if is_snapshot_row(event)}
        return replace(boundary, ahead=boundary.ahead | rows)
    known = dict(boundary.known)
    for event in unfit:
        known[event.partition] = min(event.offset, known.get(event.partition, event.offset))
    return replace(boundary, known=known)


def is_snapshot_row(event: RawEvent) -> bool:
    """Whether an event is a row that a snapshot read."""
    try:
        return bool(orjson.loads(event.value or b"{}")["op"] == "r")
    except (ValueError, TypeError, KeyError):
        return False


def _passes(event: RawEvent, boundary: Boundary) -> bool:
    if (event.partition, event.offset) in boundary.ahead:
        return True
    if event.offset >= boundary.known.get(event.partition, event.offset + 1):
        return True
    if event.value is None:
        return False
    try:
        document = orjson.loads(event.value)
        key = orjson.loads(event.key) if event.key else None
        return isinstance(document, dict) and boundary.is_passed(
            document, key if isinstance(key, dict) else None
        )
    except (ValueError, TypeError, AttributeError):
        return False


class History:
    """A contract with the versions before it: brings old events' rows into its terms.

    Events that were still on their way when the version was taken up come under it: their columns
    get the newer names, and values the form that the newer type is read from. Streamed rows that
    the connector named by a later version's columns are read by their own (see `ahead`).
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._chain = (*contract.earlier, contract)
        self._borders = [Boundary.between(older, newer) for older, newer in pairwise(self._chain)]
        self._by_lsn = self._borders[-1].by_lsn if self._borders else -1
        self._names = tuple(field.name for field in streamed_fields(contract))
        self._readers: dict[int, RowReader] = {}
        self._was_made_again = any(older.oid != contract.oid for older in contract.earlier)

    def upgraded(self, image: dict[str, Any], document: Document) -> dict[str, Any]:
        """A row of an event in the newest version's columns; the row itself where it is of it.

        Raises: NotTold where nothing tells which value is whose.
        """
        if tuple(image) == self._names and (not self._borders or self._is_newest(document)):
            return image
        number = self._version(document)
        if document.get("op") in _STREAMED:
            image = self._reader(number).read(image)
        return image if number == len(self._borders) else self._steps[number].upgraded(image)

    def key_of_delete(self, document: Document, wanted: set[str]) -> dict[str, Any] | None:
        """The key of a deleted row that the connector named by a later version's columns.

        None: its message key is right. wanted: the key's columns, by their newest names.
        Raises: NotTold.
        """
        before = document.get("before")
        if not isinstance(before, dict) or document.get("op") != "d":
            return None
        number = self._version(document)
        newer = {} if number == len(self._borders) else self._steps[number].names
        reader = self._reader(number)
        found = reader.key_of(before, [n for n in reader.names if newer.get(n, n) in wanted])
        return found and {newer.get(name, name): value for name, value in found.items()}

    def holds_key(self, document: Document) -> bool:
        """Whether the `before` of a deleted row has the key's values, whatever its identity.

        The connector reads ahead which columns the message key has, too.
        """
        reader = self._reader(len(self._borders))
        newest = self._version(document) == len(self._borders)
        return newest and reader.exact and document.get("op") == "d"

    def is_own(self, image: dict[str, Any], document: Document) -> bool:
        """Whether a streamed row is named by the columns of its own version."""
        return tuple(image) == self._names or self._reader(self._version(document)).is_own(image)

    def _is_newest(self, document: Document) -> bool:
        lsn, _ = place_of(document)
        return lsn is not None and lsn > self._by_lsn

    def _reader(self, number: int) -> RowReader:
        """Reads the streamed rows of one version."""
        if number not in self._readers:
            version = self._chain[number]
            later = (*self._chain[number + 1 :], *self._contract.later)
            ends = not later or later[0].begins_at_lsn is not None
            exact = ends and version.noted_lsn is not None
            self._readers[number] = RowReader(version, later, exact=exact)
        return self._readers[number]

    def is_of_other_table(self, document: Document) -> bool:
        """Whether an event is of a table that was dropped, and made again under its name."""
        if not self._was_made_again:
            return False
        lsn, _ = place_of(document)
        if lsn is not None and lsn > self._borders[-1].by_lsn:
            return False
        number = self._version(document)
        return number < len(self._borders) and self._steps[number].other_table

    def _version(self, document: Document) -> int:
        number = len(self._borders)
        while number and not self._borders[number - 1].is_passed(document):
            number -= 1
        return number

    def key(self, found: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
        """A message key with the newest names of its columns, where it has older ones."""
        for step in reversed(self._steps):
            renamed = {step.names.get(name, name): value for name, value in found.items()}
            if renamed.keys() >= wanted:
                return renamed
        return found

    @cached_property
    def _steps(self) -> list[_Upgrade]:
        return [_Upgrade.between(older, self._contract) for older in self._contract.earlier]


@dataclass(frozen=True)
class _Upgrade:
    """From one version to the newest: names of columns, and the values that need another form."""

    other_table: bool
    names: dict[str, str]
    gone: frozenset[str]
    old: dict[str, Column]
    new: dict[str, Column]

    @classmethod
    def between(cls, older: Contract, newest: Contract) -> _Upgrade:
        by_number = {c.attnum: c for c in newest.columns if c.attnum is not None}
        by_name = {c.source_name: c for c in newest.columns}
        names, gone, old, new = {}, set(), {}, {}
        for column in older.columns:
            target = (
                by_name.get(column.source_name)
                if column.attnum is None
                else by_number.get(column.attnum)
            )
            if column.dropped:
                continue
            if target is None:
                gone.add(column.source_name)
                continue
            names[column.source_name] = target.source_name
            if _needs_form(column, target):
                old[target.source_name], new[target.source_name] = column, target
        other = None not in (older.oid, newest.oid) and older.oid != newest.oid
        return cls(other, names, frozenset(gone), old, new)

    def upgraded(self, image: dict[str, Any]) -> dict[str, Any]:
        result = {}
        for name, value in image.items():
            if name in self.gone:
                continue
            target = self.names.get(name, name)
            if value is not None and target in self.new:
                value = _in_form(self.old[target], self.new[target], value)
            result[target] = value
        return result


def _needs_form(old: Column, new: Column) -> bool:
    if old.kind == new.kind == "array":
        return (old.element, new.element) == ("float32", "float64")
    return old.kind != new.kind and new.kind in ("decimal", "text", "text_as_is")


def _in_form(old: Column, new: Column, value: Any) -> Any:
    """A value as the newer type's events have it; what the cast of the rows makes of it."""
    if old.kind == "array":
        return _doubles(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _doubles(value: Any) -> Any:
    """A real[] as the double precision[] that its cast gives. (A real comes so by itself.)"""
    try:
        items = array_items(value) if isinstance(value, str) else None
    except ValueError:
        return value  # of several dimensions: refused when it is converted
    if items is None:
        return value
    return [
        item if item is None or item in _SPECIAL_FLOATS else _single(float(item)) for item in items
    ]


def _single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def key_changed(contract: Contract) -> bool:
    """Whether versions of this very table had another key: their deletes tell that one only."""
    key = _key_numbers(contract)
    return any(e.oid == contract.oid and _key_numbers(e) != key for e in contract.earlier)


def _key_numbers(contract: Contract) -> list[int | None]:
    return [contract.by_name[name].attnum for name in contract.key]

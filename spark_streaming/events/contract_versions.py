"""Finds the contract version that an event was written under, and converts old rows to the newest.

Postgres changes a table under an exclusive lock, so in the stream all events of the old version come
before all events of the new one. Where the source records its definitions (by Headwater's event
trigger), the boundary is an exact log position for streamed events. Otherwise, and for rows that a
snapshot read, these decide, in this order:
1. the log position: the catalog had the new version at `valid_from_lsn`;
2. the columns of the event, if the two versions differ in them: exact;
3. the log position: the catalog still had the old version at `valid_after_lsn`;
4. between the two, the transaction: one that began to write before the change's did is older.
   (A transaction that wrote to other tables first, and to this one after the change, is wrongly
   taken for older. Only changes without a trace in events, as float4[] to float8[], need this.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.kinds import ARRAY
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.postgres_text import array_items
from spark_streaming.contract.types import Column
from spark_streaming.contract.value_forms import SPECIAL_FLOATS
from spark_streaming.events.early_names import RowReader, single_as_double, streamed_fields
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import parse_sequence

Document = Mapping[str, Any]
_XID_BITS = 32
_STREAMED = frozenset("cudt")  # operations that come from the log, where it has them


@dataclass(frozen=True)
class Boundary:
    """Where a newer version of a contract begins in the stream.

    Args:
        older, newer: the columns of each version's events, by their names in the source.
        older_key: the columns of the older version's message keys; empty if it has no key.
        left_out: generated columns of either version, which streamed events lack.
        after_lsn, by_lsn: the older version still held at the first, the newer at the second.
        xid: the transaction that made the newer version, if it is known.
        type_xid: the transaction that changed a column's type; None if no type changed.
        begins_at_lsn: the exact log position where the newer version begins; None if unknown.
        newer_rows: (partition, offset) of snapshot rows that belong to the newer version although
            an exact boundary says otherwise: their values do not fit the older types.
        newer_from: partition -> an offset from which on events are of the newer version: its value
            does not fit the older types.
    """

    older: frozenset[str]
    newer: frozenset[str]
    older_key: frozenset[str]
    left_out: frozenset[str]
    after_lsn: Lsn
    by_lsn: Lsn
    xid: int | None
    type_xid: int | None
    begins_at_lsn: Lsn | None = None
    newer_rows: frozenset[tuple[int, int]] = frozenset()
    newer_from: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def between(cls, older: Contract, newer: Contract) -> Boundary:
        """Return the boundary between two consecutive versions."""
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

        key: its message key; None if it has none, or if it is not known here.
        """
        lsn, xid = place_of(document)
        if lsn is not None and self.begins_at_lsn is not None and document.get("op") in _STREAMED:
            return (
                lsn >= self.begins_at_lsn
            )  # whatever the connector calls its columns (`early_names`)
        if key is not None and self.older_key and key.keys() != self.older_key:
            return True
        image = document.get("after") or document.get("before")
        if lsn is not None and lsn > self.by_lsn:
            return True  # also where a later change brought the older names back
        if self.older != self.newer and isinstance(image, dict):
            if (image.keys() - self.left_out) != self.older:
                # It may be of neither: of a version in between that the catalog was not asked for.
                return True
            # The older columns, but a type may have changed before the columns did.
            early = lsn is not None and lsn <= self.after_lsn
            return not early and xid is not None and _is_from(xid, self.type_xid)
        # The transaction of the change may write to the table before others see the change.
        if lsn is not None and lsn <= self.after_lsn and xid != self.xid:
            return False
        first = self.type_xid if self.type_xid is not None else self.xid
        return xid is None or first is None or _is_from(xid, first)


def _is_from(xid: int, first: int | None) -> bool:
    """Whether a transaction is `first` or began to write after it. The counter wraps around."""
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
    """Return the columns of a contract's events, by their names in the source."""
    return frozenset(c.source_name for c in contract.columns if not c.dropped)


def place_of(document: Document) -> tuple[int | None, int | None]:
    """Return an event's log position and transaction; None for facts that it does not have."""
    source = document.get("source") or {}
    lsn, xid = source.get("lsn"), source.get("txId")
    if lsn is None and source.get("sequence"):
        lsn = parse_sequence(source["sequence"])[1]
    return lsn, xid if isinstance(xid, int) else None


def split_at(events: list[RawEvent], boundary: Boundary) -> tuple[list[RawEvent], list[RawEvent]]:
    """Split one topic's events at a boundary: (older, newer).

    Once a partition has passed the boundary, all its further events are newer. Snapshot rows may be
    newer than their place in the log; where log positions are exact, such a row decides for itself
    only. An event that is not JSON, or not of a row, gets the version of the event before it.
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


def extended(boundary: Boundary, unfit: Iterable[RawEvent]) -> Boundary:
    """Return a boundary that counts events as newer because their values fit no older type."""
    if boundary.begins_at_lsn is not None:
        # Streamed events are placed by log position: such a value breaks its own contract.
        rows = {(event.partition, event.offset) for event in unfit if is_snapshot_row(event)}
        return replace(boundary, newer_rows=boundary.newer_rows | rows)
    newer_from = dict(boundary.newer_from)
    for event in unfit:
        first = newer_from.get(event.partition, event.offset)
        newer_from[event.partition] = min(event.offset, first)
    return replace(boundary, newer_from=newer_from)


def is_snapshot_row(event: RawEvent) -> bool:
    """Whether an event is a row that a snapshot read."""
    try:
        return bool(orjson.loads(event.value or b"{}")["op"] == "r")
    except (ValueError, TypeError, KeyError):
        return False


def _passes(event: RawEvent, boundary: Boundary) -> bool:
    if (event.partition, event.offset) in boundary.newer_rows:
        return True
    if event.offset >= boundary.newer_from.get(event.partition, event.offset + 1):
        return True
    if event.value is None:
        return False
    try:
        document = orjson.loads(event.value)
        key = orjson.loads(event.key) if event.key else None
        if not isinstance(document, dict) or document.get("op") == "m":
            return False  # a message is not an event of a row, whatever position it has
        return boundary.is_passed(document, key if isinstance(key, dict) else None)
    except (ValueError, TypeError, AttributeError):
        return False


class History:
    """A contract with its previous versions: converts the rows of old events to the newest.

    Events may still be on their way when silver follows a schema change. Their columns get the newer
    names, and their values the form in which events carry the newer type. Streamed rows that the
    connector named by a later version's columns are read by `early_names`.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._chain = (*contract.previous_versions, contract)
        self._borders = [Boundary.between(older, newer) for older, newer in pairwise(self._chain)]
        self._by_lsn = self._borders[-1].by_lsn if self._borders else -1
        self._names = tuple(field.name for field in streamed_fields(contract))
        # A row with these columns is returned by `upgraded` as it is, whatever else its event says.
        self.plain_names = None if self._borders else self._names
        self._readers: dict[int, RowReader] = {}
        self._was_made_again = any(
            older.oid != contract.oid for older in contract.previous_versions
        )

    def upgraded(self, image: dict[str, Any], document: Document) -> dict[str, Any]:
        """Return an event's row with the newest version's columns; itself if it has them.

        Raises: AmbiguousColumns if it is not certain which value belongs to which column.
        """
        if tuple(image) == self._names and (not self._borders or self._is_newest(document)):
            return image
        number = self._version(document)
        if document.get("op") in _STREAMED:
            image = self._reader(number).read(image)
        return image if number == len(self._borders) else self._steps[number].upgraded(image)

    def key_of_delete(self, document: Document, wanted: set[str]) -> dict[str, Any] | None:
        """Return the key of a deleted row that the connector named by a later version's columns.

        Args:
            wanted: the key's columns, by their newest names.
        Returns: None if the message key is right.
        Raises: AmbiguousColumns.
        """
        before = document.get("before")
        if not isinstance(before, dict) or document.get("op") != "d":
            return None
        number = self._version(document)
        newer = {} if number == len(self._borders) else self._steps[number].names
        reader = self._reader(number)
        key = reader.key_of(before, [n for n in reader.names if newer.get(n, n) in wanted])
        return key and {newer.get(name, name): value for name, value in key.items()}

    def holds_key(self, document: Document) -> bool:
        """Whether the `before` of a deleted row has the key's values, whatever the identity.

        The columns of its message key may be newer than the log, too.
        """
        reader = self._reader(len(self._borders))
        newest = self._version(document) == len(self._borders)
        return newest and reader.exact and document.get("op") == "d"

    def has_own_names(self, image: dict[str, Any], document: Document) -> bool:
        """Whether a streamed row has the column names of its own version."""
        if tuple(image) == self._names:
            return True
        return self._reader(self._version(document)).has_own_names(image)

    def _is_newest(self, document: Document) -> bool:
        lsn, _ = place_of(document)
        return lsn is not None and lsn > self._by_lsn

    def _reader(self, number: int) -> RowReader:
        """Return the reader of one version's streamed rows."""
        if number not in self._readers:
            version = self._chain[number]
            later = (*self._chain[number + 1 :], *self._contract.later_versions)
            ends = not later or later[0].begins_at_lsn is not None
            exact = ends and version.noted_lsn is not None
            self._readers[number] = RowReader(version, later, exact=exact)
        return self._readers[number]

    def is_of_other_table(self, document: Document) -> bool:
        """Whether an event is of a previous table of this name, which was dropped."""
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

    def key(self, key: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
        """Return a message key with the newest names of its columns (`wanted`)."""
        for step in reversed(self._steps):
            renamed = {step.names.get(name, name): value for name, value in key.items()}
            if renamed.keys() >= wanted:
                return renamed
        return key

    @cached_property
    def _steps(self) -> list[_Upgrade]:
        return [
            _Upgrade.between(older, self._contract) for older in self._contract.previous_versions
        ]


@dataclass(frozen=True)
class _Upgrade:
    """The conversion from one version to the newest: new names, and values that change form.

    Args:
        other_table: the version is of a dropped table of the same name.
        names: name in the source -> newest name in the source.
        gone: columns that the newest version does not have.
        old, new: newest name -> column before and now, if the value's form differs.
    """

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
    if old.kind == new.kind == ARRAY:
        return (old.element, new.element) == ("float32", "float64")
    return old.kind != new.kind and new.kind in ("decimal", "text", "text_as_is")


def _in_form(old: Column, new: Column, value: Any) -> Any:
    """Return a value in the form of the newer type's events, which is the result of Postgres's cast."""
    if old.kind == ARRAY:
        return _doubles(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _doubles(value: Any) -> Any:
    """Return a real[] as its cast's double precision[]; a plain real already comes as a double."""
    try:
        items = array_items(value) if isinstance(value, str) else None
    except ValueError:
        return value  # several dimensions: the conversion to Arrow refuses it
    if items is None:
        return value
    return [
        item if item is None or item in SPECIAL_FLOATS else single_as_double(float(item))
        for item in items
    ]


def key_changed(contract: Contract) -> bool:
    """Whether previous versions of this table had another key, which is all their deletes name."""
    versions = (each for each in contract.previous_versions if each.oid == contract.oid)
    return any(each.key_numbers != contract.key_numbers for each in versions)

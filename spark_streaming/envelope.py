"""Debezium's events into typed changes of one table."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa

from spark_streaming.contract import Contract
from spark_streaming.convert import convert
from spark_streaming.events import Change, Changes, Decoded, RawEvent, RawKey, Reject
from spark_streaming.layout import PLACEHOLDER, Row, is_placeholder, layout_of
from spark_streaming.position import START, HighWater, Position, parse_sequence

__all__ = ["Changes", "Decoded", "HighWater", "Position", "RawEvent", "Reject", "decode"]

LSN_MAX = 2**63 - 1
_OLD_KEY_HEADER = "__debezium.oldkey"
# Of a table's snapshot rows the first is marked so; of a table with one row, only the last.
_SNAPSHOT_BORDERS = frozenset(
    {"first", "first_in_data_collection", "last", "last_in_data_collection"}
)
_ROW_OPERATIONS = frozenset("cudr")

Document = dict[str, Any]


class _Refused(Exception):
    """An event that goes to quarantine: (rule, reason)."""


def decode(events: Iterable[RawEvent], contract: Contract, high_water: HighWater) -> Decoded:
    """Decode the events of one table's topic, in any order, into changes that `fold` takes.

    Args:
        events: of one topic; replays of what `high_water` has passed are skipped, tombstones
            and messages ignored.
        contract: the table's.
        high_water: as the last batch left it; other topics' marks are dropped.
    An event that breaks the contract is rejected with its reason; none is dropped silently.
    """
    reader = _Reader(contract, high_water)
    ordered = sorted(events, key=itemgetter(1, 2))  # partition, offset
    for event in ordered:
        reader.read(event)
    return reader.finish(ordered[0].topic if ordered else "")


class _Reader:
    """Reads events in order and gathers what `Decoded` holds."""

    def __init__(self, contract: Contract, high_water: HighWater) -> None:
        self.contract = contract
        self.layout = layout_of(contract)
        self.marks = dict(high_water.positions)
        self.changes: list[Change] = []
        self.rows: list[Row] = []
        self.gaps: dict[int, tuple[int, ...]] = {}
        self.rejects: list[Reject] = []
        self.skipped = self.ignored = 0
        self.unknown_columns: set[str] = set()
        self.stale_columns: set[str] = set()
        self.last_lsn = self.last_committed_us = 0

    def read(self, event: RawEvent) -> None:
        """Take one event in: a change, a reject, a replay, or nothing."""
        if event.value is None:
            self.ignored += 1
            return
        try:
            self._read(event, orjson.loads(event.value))
        except orjson.JSONDecodeError as error:
            self.rejects.append(Reject(event, "not-json", f"the event is not JSON: {error}"))
        except _Refused as refused:
            self.rejects.append(Reject(event, *refused.args))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"not a change event: {type(error).__name__} {error}"
            self.rejects.append(Reject(event, "not-an-envelope", reason))

    def _read(self, event: RawEvent, document: Document) -> None:
        op = document["op"]
        if op == "m":
            self.ignored += 1
            return
        source = document["source"]
        lsn = source["lsn"]
        if type(lsn) is not int:
            raise _Refused("not-an-envelope", f"source.lsn is {lsn!r}, not a number")
        committed = source.get("ts_us") or (source.get("ts_ms") or 0) * 1000
        if lsn > self.last_lsn:
            self.last_lsn = lsn
        if committed > self.last_committed_us:
            self.last_committed_us = committed
        place = (event.topic, event.partition)
        guard = lsn if op == "r" else self._advance(place, source, lsn, document)
        if guard is None:
            self.skipped += 1
            return
        key, after, before, old_key, old_image = self._images(op, event, document)
        border = op == "r" and source.get("snapshot") in _SNAPSHOT_BORDERS
        order = self.marks.get(place, START)
        change = Change(
            op, lsn, guard, committed, key, after, before, order, old_key, old_image, border, event
        )
        self.changes.append(change)

    def _advance(
        self, place: tuple[str, int], source: Document, lsn: int, document: Document
    ) -> int | None:
        """Pass a streamed event; its guard, or None for a replay.

        An event that is past the mark in commit order is new: it replaces whatever silver holds.
        That matters after a snapshot: a transaction that was under way while it was taken
        streams afterwards, with lower LSNs than the snapshot's rows carry.
        """
        commit, _ = parse_sequence(source["sequence"])
        order = (document.get("transaction") or {}).get("total_order") or 0
        mark = self.marks.get(place, START)
        if commit is None and mark.last_commit_lsn > 0:
            return lsn  # its order is not known: neither skip it nor trust it
        position = Position(commit or 0, lsn, order)
        if position > mark:
            self.marks[place] = position
            return LSN_MAX
        # Rows of one COPY share an LSN. A keyed row may safely come twice, a bag's may not.
        if position[:2] == mark[:2] and (not self.contract.is_bag or not order):
            return lsn
        return None

    def _images(
        self, op: str, event: RawEvent, document: Document
    ) -> tuple[RawKey | None, int, int, RawKey | None, int]:
        """Store the event's images: (key, after, before, old key, old key's image)."""
        if op == "t":
            return None, -1, -1, None, -1
        if op not in _ROW_OPERATIONS:
            raise _Refused("unknown-operation", f"operation {str(op)[:40]!r} is not known")
        if self.contract.is_bag:
            return None, *self._bag_images(op, event, document), None, -1
        if op == "d":
            key, after = self._key_image(event.key, document)
            return key, after, -1, None, -1
        after = self._store(event, document, "after")
        key = _checked(self.layout.key_of(self.rows[after]))
        old_key, old_image = None, -1
        if op == "c" and event.headers:
            old_key, old_image = self._old_key(event)
        elif op == "u" and self.contract.replica_identity == "index" and document.get("before"):
            # Debezium splits an update where the primary key changes, and knows no other key.
            old_key, old_image = self._key_image(None, document)
            if old_key == key:
                old_key, old_image = None, -1
        return key, after, -1, old_key, old_image

    def _bag_images(self, op: str, event: RawEvent, document: Document) -> tuple[int, int]:
        if op == "r" and document["source"].get("snapshot") == "incremental":
            reason = "an incremental snapshot cannot tell the rows of a table without a key"
            raise _Refused("snapshot-without-key", reason)
        before = self._store(event, document, "before") if op in "ud" else -1
        after = self._store(event, document, "after") if op != "d" else -1
        return after, before

    def _store(self, event: RawEvent, document: Document, which: str) -> int:
        image = document[which]
        if not isinstance(image, dict):
            needs = "; the table's replica identity must be FULL" if which == "before" else ""
            raise _Refused(f"no-{which}", f"the event has no `{which}` row{needs}")
        layout = self.layout
        if len(image) == layout.width:
            try:
                row = layout.row_of(image)
            except KeyError:
                row = self._aligned(image)
        else:
            row = self._aligned(image)
        if layout.may_have_gaps(event.value or b""):
            row = self._without_placeholders(row, document, which)
        self.rows.append(row)
        return len(self.rows) - 1

    def _aligned(self, image: Document) -> Row:
        row, unknown, absent = self.layout.aligned(image)
        self.unknown_columns |= unknown
        self.stale_columns |= absent
        return row

    def _without_placeholders(self, row: Row, document: Document, which: str) -> Row:
        gaps = self.layout.gaps(row)
        if not gaps:
            return row
        values = list(row)
        old = (document.get("before") or {}) if which == "after" else {}
        left = []
        for number in gaps:
            # Only identity FULL makes `before` hold the row; else it holds made-up values.
            known = old.get(self.layout.names[number], PLACEHOLDER)
            if self.contract.replica_identity == "full" and not is_placeholder(known):
                values[number] = known
            else:
                values[number] = None
                left.append(number)
        if left and self.contract.is_bag:
            names = ", ".join(self.contract.columns[number].name for number in left)
            raise _Refused("unavailable-value", f"the event does not hold the value of {names}")
        if left:
            self.gaps[len(self.rows)] = tuple(left)
        return tuple(values)

    def _key_image(self, message_key: bytes | None, document: Document) -> tuple[RawKey, int]:
        """Store an image that holds a key only, from the message key if it has the columns."""
        layout = self.layout
        names = set(layout.key_names)
        found = orjson.loads(message_key) if message_key else None
        if not isinstance(found, dict) or not found.keys() >= names:
            # Under the default identity `before` holds made-up values beside the key.
            real = self.contract.replica_identity in ("full", "index")
            found = document.get("before") if real else None
        if not isinstance(found, dict) or not found.keys() >= names:
            wanted = ", ".join(layout.key_names)
            raise _Refused("no-key", f"the event does not hold the row's key ({wanted})")
        values: list[Any] = [None] * layout.width
        for name, number in zip(layout.key_names, layout.key_numbers, strict=True):
            values[number] = found[name]
        self.rows.append(tuple(values))
        return _checked(layout.key_of(values)), len(self.rows) - 1

    def _old_key(self, event: RawEvent) -> tuple[RawKey | None, int]:
        for name, value in event.headers:
            if name == _OLD_KEY_HEADER and value:
                try:
                    return self._key_image(value, {})
                except (_Refused, orjson.JSONDecodeError):
                    break  # `fold` then takes the delete that came just before
        return None, -1

    def finish(self, topic: str) -> Decoded:
        """Convert the images; changes whose images break the contract become rejects."""
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * self.layout.width
        arrays = []
        bad: dict[int, tuple[str, str]] = {}
        for column, values in zip(self.contract.columns, columns, strict=True):
            array, found = convert(column, values)
            arrays.append(array)
            for number, (rule, reason) in found.items():
                bad.setdefault(number, (rule, reason))
                if rule == "wrong-type":
                    self.stale_columns.add(column.source_name)
        if bad:
            self._reject_images(bad)
        images = pa.Table.from_arrays(arrays, schema=self.contract.data_schema)
        return Decoded(
            changes=Changes(self.changes, images, self.gaps),
            rejects=self.rejects,
            skipped=self.skipped,
            ignored=self.ignored,
            high_water=HighWater({k: v for k, v in self.marks.items() if k[0] == topic}),
            unknown_columns=self.unknown_columns,
            stale_columns=self.stale_columns,
            last_lsn=self.last_lsn,
            last_committed_us=self.last_committed_us,
        )

    def _reject_images(self, bad: dict[int, tuple[str, str]]) -> None:
        kept = []
        for change in self.changes:
            found = bad.get(change.after) or bad.get(change.before)
            if found is None:
                kept.append(change)
            else:
                self.rejects.append(Reject(change.event, *found))
        self.changes = kept


def _checked(key: RawKey) -> RawKey:
    if key is None or (type(key) is tuple and None in key):
        raise _Refused("null-key", "a key column is NULL")
    try:
        hash(key)
    except TypeError:
        return orjson.dumps(key).decode()
    return key

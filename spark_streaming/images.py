"""The rows that events carry, stored as they are met and converted together."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa

from spark_streaming.ahead import RULE, NotTold
from spark_streaming.contract import Contract
from spark_streaming.convert import convert
from spark_streaming.events import RawEvent, RawKey
from spark_streaming.layout import PLACEHOLDER, Row, is_placeholder, layout_of
from spark_streaming.versions import History

OLD_KEY_HEADER = "__debezium.oldkey"
NEW_KEY_HEADER = "__debezium.newkey"
_WIDENED = frozenset({"int16", "int32", "decimal"})
# The two halves of a key change carry them: a delete the new key, a create the old one.
KEY_CHANGE_HEADERS = frozenset({OLD_KEY_HEADER, NEW_KEY_HEADER})

Document = dict[str, Any]


class Refused(Exception):
    """An event that goes to quarantine: (rule, reason)."""


class Images:
    """The rows of a batch's events; each gets a number."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.layout = layout_of(contract)
        self.history = History(contract)
        self.rows: list[Row] = []
        self.gaps: dict[int, tuple[int, ...]] = {}
        self.unknown_columns: set[str] = set()
        self.stale_columns: set[str] = set()

    def key_of(self, image: int) -> RawKey:
        """The key that stands in a stored row."""
        return checked(self.layout.key_of(self.rows[image]))

    def store(self, event: RawEvent, document: Document, which: str) -> int:
        """Store the `before` or the `after` row of an event; its number.

        Raises: Refused where there is none.
        """
        image = document[which]
        if not isinstance(image, dict):
            needs = "; the table's replica identity must be FULL" if which == "before" else ""
            raise Refused(f"no-{which}", f"the event has no `{which}` row{needs}")
        layout = self.layout
        image = self._upgraded(image, document)
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

    def _upgraded(self, image: Document, document: Document) -> Document:
        """A row in the contract's columns. Raises: Refused where nothing tells its values apart."""
        try:
            return self.history.upgraded(image, document)
        except NotTold as untold:
            # Perhaps it is of a definition that the catalog was not asked about yet.
            self._aligned(image)
            raise Refused(RULE, str(untold)) from untold

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
        if old and self.contract.replica_identity == "full":
            old = self._upgraded(old, document)
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
            raise Refused("unavailable-value", f"the event does not hold the value of {names}")
        if left:
            self.gaps[len(self.rows)] = tuple(left)
        return tuple(values)

    def key_row(self, message_key: bytes | None, document: Document) -> tuple[RawKey, int]:
        """Store a row that holds a key only, from the message key if it has the columns."""
        layout = self.layout
        names = set(layout.key_names)
        found = orjson.loads(message_key) if message_key else None
        if isinstance(found, dict):
            found = self.history.key(found, names)
        try:
            # The connector takes the key from the row, by the names that it gave it.
            found = self.history.key_of_delete(document, names) or found
        except NotTold as untold:
            raise Refused(RULE, str(untold)) from untold
        if not isinstance(found, dict) or not found.keys() >= names:
            # Under the default identity `before` holds made-up values beside the key.
            real = self.contract.replica_identity in ("full", "index")
            real = real or self.history.holds_key(document)
            found = document.get("before") if real else None
        if not isinstance(found, dict) or not found.keys() >= names:
            wanted = ", ".join(layout.key_names)
            raise Refused("no-key", f"the event does not hold the row's key ({wanted})")
        values: list[Any] = [None] * layout.width
        for name, number in zip(layout.key_names, layout.key_numbers, strict=True):
            values[number] = found[name]
        self.rows.append(tuple(values))
        return checked(layout.key_of(values)), len(self.rows) - 1

    def is_named_by_its_own(self, event: RawEvent) -> bool:
        """Whether a deleted row's columns are named by the definition that it was written under."""
        document = orjson.loads(event.value or b"{}")
        before = document.get("before")
        return not isinstance(before, dict) or self.history.is_own(before, document)

    def old_key(self, event: RawEvent, document: Document) -> tuple[RawKey | None, int]:
        """The key that the row of a create had before, if its key changed; (None, -1) if not."""
        for name, value in event.headers:
            if name == OLD_KEY_HEADER and value:
                if not self.history.is_own(document["after"], document):
                    break
                try:
                    return self.key_row(value, {})
                except (Refused, orjson.JSONDecodeError):
                    break  # `fold` then takes the delete that came just before
        return None, -1

    def convert(self) -> tuple[pa.Table, dict[int, tuple[str, str]]]:
        """All rows as Arrow; number -> (rule, reason) of those that break the contract."""
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * self.layout.width
        arrays = []
        bad: dict[int, tuple[str, str]] = {}
        for column, values in zip(self.contract.columns, columns, strict=True):
            array, found = convert(column, values)
            arrays.append(array)
            for number, (rule, reason) in found.items():
                bad.setdefault(number, (rule, reason))
                # A number that is too large may be one of a column that was made wider meanwhile.
                if rule == "wrong-type" or (column.element or column.kind) in _WIDENED:
                    self.stale_columns.add(column.source_name)
        return pa.Table.from_arrays(arrays, schema=self.contract.data_schema), bad


def checked(key: RawKey) -> RawKey:
    """The key as something to look up by; raises Refused where a part is NULL."""
    if key is None or (type(key) is tuple and None in key):
        raise Refused("null-key", "a key column is NULL")
    try:
        hash(key)
    except TypeError:
        return orjson.dumps(key).decode()
    return key

"""Collects the rows (images) that events carry, and converts them together."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa

from spark_streaming.contract.contract import Contract
from spark_streaming.events.arrow_values import convert
from spark_streaming.events.contract_versions import History
from spark_streaming.events.early_names import RULE, AmbiguousColumns
from spark_streaming.events.event import RawEvent, RawKey
from spark_streaming.events.layout import PLACEHOLDER, Row, is_placeholder, layout_of

OLD_KEY_HEADER = "__debezium.oldkey"
NEW_KEY_HEADER = "__debezium.newkey"
# A key change is a delete with the new key in a header, and a create with the old key in one.
KEY_CHANGE_HEADERS = frozenset({OLD_KEY_HEADER, NEW_KEY_HEADER})

Document = dict[str, Any]


class Refused(Exception):
    """An event goes to quarantine; the arguments are (rule, reason)."""


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
        """Return the key of a stored row."""
        return checked(self.layout.key_of(self.rows[image]))

    def store(self, event: RawEvent, document: Document, which: str) -> int:
        """Store the `before` or the `after` row of an event and return its number.

        Raises: Refused if the event does not have it.
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
        """Return a row in the contract's columns. Raises: Refused if they are ambiguous."""
        try:
            return self.history.upgraded(image, document)
        except AmbiguousColumns as ambiguous:
            # It may follow a definition that was not read yet: report its unknown columns.
            self._aligned(image)
            raise Refused(RULE, str(ambiguous)) from ambiguous

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
            # Only with identity FULL does `before` hold the row; else its values are made up.
            old_value = old.get(self.layout.names[number], PLACEHOLDER)
            if self.contract.replica_identity == "full" and not is_placeholder(old_value):
                values[number] = old_value
            else:
                values[number] = None
                left.append(number)
        if left and self.contract.is_keyless:
            names = ", ".join(self.contract.columns[number].name for number in left)
            raise Refused("unavailable-value", f"the event does not hold the value of {names}")
        if left:
            self.gaps[len(self.rows)] = tuple(left)
        return tuple(values)

    def key_row(self, message_key: bytes | None, document: Document) -> tuple[RawKey, int]:
        """Store a row that holds only a key, and return (key, number of the row).

        The key is taken from the message key if that has the columns, else from `before`.
        """
        layout = self.layout
        names = set(layout.key_names)
        key = orjson.loads(message_key) if message_key else None
        if isinstance(key, dict):
            key = self.history.key(key, names)
        try:
            # The connector makes the message key from the row, by the names that it gave the row.
            key = self.history.key_of_delete(document, names) or key
        except AmbiguousColumns as ambiguous:
            raise Refused(RULE, str(ambiguous)) from ambiguous
        if not isinstance(key, dict) or not key.keys() >= names:
            # By the default identity, `before` has made-up values in columns outside of the key.
            is_real = self.contract.replica_identity in ("full", "index")
            is_real = is_real or self.history.holds_key(document)
            key = document.get("before") if is_real else None
        if not isinstance(key, dict) or not key.keys() >= names:
            wanted = ", ".join(layout.key_names)
            raise Refused("no-key", f"the event does not hold the row's key ({wanted})")
        values: list[Any] = [None] * layout.width
        for name, number in zip(layout.key_names, layout.key_numbers, strict=True):
            values[number] = key[name]
        self.rows.append(tuple(values))
        return checked(layout.key_of(values)), len(self.rows) - 1

    def has_own_names(self, event: RawEvent) -> bool:
        """Whether a deleted row has the column names of the definition that it was written under."""
        document = orjson.loads(event.value or b"{}")
        before = document.get("before")
        return not isinstance(before, dict) or self.history.has_own_names(before, document)

    def old_key(self, event: RawEvent, document: Document) -> tuple[RawKey | None, int]:
        """Return the previous key of a created row if its key changed, else (None, -1)."""
        for name, value in event.headers:
            if name == OLD_KEY_HEADER and value:
                if not self.history.has_own_names(document["after"], document):
                    break
                try:
                    return self.key_row(value, {})
                except (Refused, orjson.JSONDecodeError):
                    break  # `fold` then uses the delete that came just before
        return None, -1

    def convert(self) -> tuple[pa.Table, dict[int, tuple[str, str]]]:
        """Convert all rows to Arrow.

        Returns: the rows; and number -> (rule, reason) of those that break the contract.
        """
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * self.layout.width
        arrays = []
        bad: dict[int, tuple[str, str]] = {}
        for column, values in zip(self.contract.columns, columns, strict=True):
            array, problems = convert(column, values)
            arrays.append(array)
            for number, (rule, reason) in problems.items():
                bad.setdefault(number, (rule, reason))
                # A number is too large, too, if its column was widened after the contract was read.
                if rule == "wrong-type" or column.value_kind.widens_to:
                    self.stale_columns.add(column.source_name)
        return pa.Table.from_arrays(arrays, schema=self.contract.data_schema), bad


def checked(key: RawKey) -> RawKey:
    """Return the key in a hashable form. Raises: Refused if a part is NULL."""
    if key is None or (type(key) is tuple and None in key):
        raise Refused("null-key", "a key column is NULL")
    try:
        hash(key)
    except TypeError:
        return orjson.dumps(key).decode()
    return key

"""A contract as decoding needs it: the order and names of its columns, computed once."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any

from pyarrow.types import is_binary

from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import RawKey

PLACEHOLDER = "__debezium_unavailable_value"
_MARKER = PLACEHOLDER.encode()
_MARKER_BASE64 = base64.b64encode(_MARKER)
_PLACEHOLDER_BASE64 = _MARKER_BASE64.decode()

Row = tuple[Any, ...]


class Layout:
    """The order and the names of a contract's columns, as functions on events."""

    def __init__(self, contract: Contract) -> None:
        columns = contract.columns
        numbers = {column.name: number for number, column in enumerate(columns)}
        self.names = [column.source_name for column in columns]
        self.width = len(columns)
        self.key_numbers = [numbers[name] for name in contract.key]
        self.key_names = [self.names[number] for number in self.key_numbers]
        self.key_of: Callable[[Any], RawKey] = (
            itemgetter(*self.key_numbers) if self.key_numbers else lambda row: None
        )
        self.row_of = _row_getter(self.names)
        self._known = frozenset(self.names)
        self._left_out = frozenset(contract.left_out)
        self._missing = [column.event_value(column.missing_value) for column in columns]
        self._toastable = [n for n, column in enumerate(columns) if column.toastable]
        self._has_bytes = any(is_binary(columns[number].arrow_type) for number in self._toastable)

    def aligned(self, image: dict[str, Any]) -> tuple[Row, set[str], set[str]]:
        """Fit an image with other columns to the contract: (row, unknown names, absent names).

        An absent column gets the value of rows older than the column: its default, else NULL.
        """
        row = tuple(
            image.get(name, default)
            for name, default in zip(self.names, self._missing, strict=True)
        )
        unknown = image.keys() - self._known - self._left_out
        return row, set(unknown), set(self._known - image.keys())

    @property
    def has_large_values(self) -> bool:
        """Whether events of this table may leave out a value that did not change."""
        return bool(self._toastable)

    def may_have_gaps(self, value: bytes) -> bool:
        """Whether an event may leave out an unchanged value; False is certain, True is not."""
        if not self._toastable:
            return False
        return _MARKER in value or (self._has_bytes and _MARKER_BASE64 in value)

    def gaps(self, row: Row) -> list[int]:
        """Return the numbers of the columns whose value the event left out.

        Only columns that Postgres may store out of line count: elsewhere the placeholder is a value.
        """
        return [number for number in self._toastable if is_placeholder(row[number])]


@lru_cache(maxsize=256)
def layout_of(contract: Contract) -> Layout:
    """Return the layout of a contract, shared by all batches."""
    return Layout(contract)


def is_placeholder(value: Any) -> bool:
    """Whether a value is Debezium's placeholder for an unchanged value."""
    return value in (PLACEHOLDER, _PLACEHOLDER_BASE64) or value == [PLACEHOLDER]


def _row_getter(names: list[str]) -> Callable[[dict[str, Any]], Row]:
    if len(names) == 1:
        [name] = names
        return lambda image: (image[name],)
    if not names:
        return lambda image: ()
    return itemgetter(*names)

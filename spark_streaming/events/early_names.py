"""Reads streamed rows whose column names are newer than their place in the log.

In the log a row is a list of values without names. The connector adds the names of the columns that
it currently knows, and these may be newer than the log position. For a blocking snapshot it reads the
columns of all tables from the catalog (also generated ones, which no streamed row has). For an
incremental snapshot, and when it meets a new label of an enum, it reads those of one table. Until the
log describes the table again:
1. The order of the values is right: the n-th value belongs to the n-th column that the table had at
   the event's log position, whatever name it carries.
2. The one event that had the new label is an exception: there the names are right, and values whose
   name is not known any more are missing.
Where the source does not record its definitions, an event may follow a definition that nobody saw: it
has columns that no known version has, and lacks others.

Rows are returned with the columns of their own definition. If neither names nor order show which value belongs to
which column, the event is refused: a NULL or a neighbour's value is never written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.kinds import PLAIN_TEXT_TYPES
from spark_streaming.contract.types import Column

Image = Mapping[str, Any]
RULE = "columns-ahead"


class AmbiguousColumns(Exception):
    """It is not certain which value belongs to which column; the message names the columns."""


@dataclass(frozen=True)
class _Field:
    name: str
    pg_type: str
    nullable: bool
    form: str = ""  # types of one form have the same values in events

    @classmethod
    def of(cls, column: Column) -> _Field:
        kind = column.value_kind
        form = "integer" if kind.digits else "float" if kind.is_float else ""
        if column.kind == "text" and column.base_type in PLAIN_TEXT_TYPES:
            form = "text"
        elif column.base_type == "numeric" and not column.is_array:
            form = "number"
        return cls(column.source_name, column.pg_type, column.nullable, form)


class RowReader:
    """Reads streamed rows of one version of a table.

    Args:
        version: the definition that the table had at the rows' log positions.
        later: the known later definitions; a row's names show which of them named it.
        exact: whether the version was found by log position, which is certain (the source records
            its definitions). Else it was found by the names, and only generated columns may differ.
    """

    def __init__(self, version: Contract, later: Sequence[Contract] = (), *, exact: bool) -> None:
        self._fields = streamed_fields(version)
        self.names = tuple(field.name for field in self._fields)
        known = frozenset(self.names)
        self._left_out = frozenset(version.left_out) - known
        self._singles = [] if not exact else [*_widened_floats(version, later)]
        self._enums = [c.source_name for c in version.columns if c.kind == "enum" and not c.dropped]
        self.exact = exact
        self._candidates = list(_column_orders([version, *later] if exact else [version]))
        self._orders: dict[tuple[str, ...], list[tuple[_Field, ...]] | None] = {}

    def read(self, image: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its version's columns: itself if it has them. Raises: AmbiguousColumns."""
        given = tuple(image)
        if given != self.names:
            orders = self._orders_of(given)
            image = image if orders is None else self._renamed(image, orders)
        if self._singles:
            # A real that was read as a double precision has the digits of its text, not of a float4.
            image = {
                **image,
                **{n: single_as_double(image[n]) for n in self._singles if n in image},
            }
        return image

    def key_of(self, before: Image, names: Iterable[str]) -> dict[str, Any] | None:
        """Return a deleted row's key columns (by this version's names), from its `before`.

        By the default replica identity only these columns hold real values there.
        Returns: None if the row has its own version's names; then its message key has them, too.
        Raises: AmbiguousColumns.
        """
        orders = self._orders_of(tuple(before))
        if orders is None or not (orders or self.exact):
            return None
        values = list(before.values())
        places = {name: self.names.index(name) for name in names if name in self.names}
        if max(places.values(), default=0) >= len(values):
            return None
        for place in places.values():
            self._check_type(place, values[place], orders)
        return {name: values[place] for name, place in places.items()}

    def has_own_names(self, image: Image) -> bool:
        """Whether a row has the column names of its own version."""
        return self._orders_of(tuple(image)) is None

    def _orders_of(self, names: tuple[str, ...]) -> list[tuple[_Field, ...]] | None:
        """Return the definitions that have these names; None if the names fit the values."""
        if names not in self._orders:
            self._orders[names] = self._find_orders(names)
        return self._orders[names]

    def _find_orders(self, names: tuple[str, ...]) -> list[tuple[_Field, ...]] | None:
        width = len(self.names)
        given, known = frozenset(names), frozenset(self.names)
        if not self.exact and given - known - self._left_out and known - given:
            return []  # a definition in between that nobody saw: perhaps a column was renamed
        orders = [order for order in self._candidates if _names(order) == names]
        if len(names) < width:
            # With fewer columns than values the connector fails, except in case 2 above. Otherwise
            # the publication has only some of the columns.
            return orders if orders and self._enums else None
        if names[:width] == self.names:
            return None  # further names at the end have no value
        return orders if orders or self.exact or self._left_out & set(names) else None

    def _renamed(
        self, image: dict[str, Any], orders: Sequence[tuple[_Field, ...]]
    ) -> dict[str, Any]:
        """Return a row with its version's names: by position, or by name in case 2."""
        values = list(image.values())
        width, known = len(self.names), frozenset(self.names)
        if not orders:
            raise AmbiguousColumns(self._why([n for n in self.names if n not in image], image))
        # A column without a value is NULL, or has a made-up value if it is NOT NULL.
        may_be_empty = [
            value is None or any(not order[place].nullable for order in orders)
            for place, value in enumerate(values)
        ]
        may_be_by_position = len(values) >= width and all(may_be_empty[width:])
        # An enum that is not NULL may have had the new label.
        may_be_new_label = any(e not in image or image[e] is not None for e in self._enums)
        if may_be_new_label and all(
            may_be_empty[place] for place, name in enumerate(image) if name not in known
        ):
            return self._by_name(image, may_be_by_position)
        if len(values) < width:
            return image
        if not may_be_by_position:
            raise AmbiguousColumns(self._why([n for n in self.names if n not in image], image))
        for place, value in enumerate(values[:width]):
            self._check_type(place, value, orders)
        return dict(zip(self.names, values, strict=False))

    def _by_name(self, image: dict[str, Any], may_be_by_position: bool) -> dict[str, Any]:
        """Return a row by its names, if no value is missing and the order says the same."""
        missing = [name for name in self.names if name not in image]
        if missing:
            raise AmbiguousColumns(self._why(missing, image))
        by_name = {name: image[name] for name in self.names}
        differing = [n for n, v in zip(self.names, image.values(), strict=False) if by_name[n] != v]
        if differing and may_be_by_position:
            raise AmbiguousColumns(self._why(differing, image))
        return by_name

    def _check_type(self, place: int, value: Any, orders: Sequence[tuple[_Field, ...]]) -> None:
        """Refuse a value that was read as another type, or that may be made up.

        The connector makes up a value for a NULL that it reads as a NOT NULL column.
        """
        own = self._fields[place]
        if value is None:
            return
        read_as = [order[place] for order in orders]
        fits = read_as and all(
            (field.name == own.name or field.pg_type == own.pg_type or own.form == field.form != "")
            and (field.nullable or not own.nullable)
            for field in read_as
        )
        if not fits:
            raise AmbiguousColumns(
                self._why([own.name], [f.name for order in orders[:1] for f in order])
            )

    def _why(self, names: Iterable[str], image: Iterable[str]) -> str:
        shown = ", ".join(sorted(names)) or ", ".join(self.names)
        given = ", ".join(image)
        return (
            f"the connector named the event's values by another definition of the table ({given}), "
            f"and the value of column {shown} cannot be told; "
            "`headwater resync` of the table brings its row"
        )


def _widened_floats(version: Contract, later: Sequence[Contract]) -> Iterator[str]:
    """Yield the columns of type real that a later version has as double precision."""
    doubles = {c.attnum for each in later for c in each.columns if c.kind == "float64"}
    for column in version.columns:
        if column.kind == "float32" and not column.dropped and column.attnum in doubles:
            yield column.source_name


def single_as_double(value: Any) -> Any:
    """Return the double that Postgres makes of a real, whether it was read as real or double."""
    if not isinstance(value, float):
        return value  # NULL, or a text such as NaN
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return value


def streamed_fields(contract: Contract) -> tuple[_Field, ...]:
    """Return the columns of a version's streamed rows, in their order in the log."""
    return tuple(_Field.of(column) for column in contract.columns if not column.dropped)


def _column_orders(versions: Iterable[Contract]) -> Iterator[tuple[_Field, ...]]:
    """Yield the columns that the connector may name a row by: without and with generated ones."""
    for contract in versions:
        yield streamed_fields(contract)
        numbers = [c.attnum for c in contract.columns if not c.dropped]
        if contract.left_out and len(contract.left_out) == len(contract.left_out_at):
            numbered = [*zip(numbers, streamed_fields(contract), strict=True)]
            for name, at in zip(contract.left_out, contract.left_out_at, strict=True):
                numbered.append((at[0], _Field(name, *at[1:])))
            yield tuple(field for _, field in sorted(numbered, key=lambda item: item[0] or 0))


def _names(order: Iterable[_Field]) -> tuple[str, ...]:
    return tuple(field.name for field in order)

"""Streamed rows that the connector named by the columns of another definition than their own.

In the log a row is a list of values without names. The connector names them by the columns that it
knows of the table, and those may be ahead of the log: for a blocking snapshot it reads the columns of
all tables from the catalog (generated ones too, which are in no streamed row), for an incremental one
and at a label that is new in an enum those of one table. Until the table's next description comes by
in the log,
1. the values stand at their places: the n-th is the n-th column that the table had at the event's
   log position, whatever name it is given;
2. but in the very event whose label was new they go by their names, and one whose name is not known
   any more is left out.
Where the source does not note its definitions, an event may be of one that nobody saw: it has columns
that none has, and lacks others.
What is read here has the columns of the event's own definition. Where neither the names nor the places
tell which value is whose, the event is refused: never a NULL, or a neighbour's value, in its place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spark_streaming.contract import Contract
from spark_streaming.types import Column

Image = Mapping[str, Any]
RULE = "columns-ahead"
_ENUM = "enum"


class NotTold(Exception):
    """Which value is which column's cannot be told; the text says of which, for people."""


_INTEGERS = frozenset({"int16", "int32", "int64"})
_FLOATS = frozenset({"float32", "float64"})
_TEXTS = frozenset({"text", "varchar", "citext", "name"})


@dataclass(frozen=True)
class _Field:
    name: str
    pg_type: str
    nullable: bool
    form: str = ""  # types of one form have the same values in events

    @classmethod
    def of(cls, column: Column) -> _Field:
        kind, base = column.kind, column.base_type
        form = "integer" if kind in _INTEGERS else "float" if kind in _FLOATS else ""
        form = "text" if kind == "text" and base in _TEXTS else form
        form = "number" if base == "numeric" and kind != "array" else form
        return cls(column.source_name, column.pg_type, column.nullable, form)


class RowReader:
    """Reads streamed rows of one version of a table.

    Args:
        version: the definition that the table had at the rows' log positions.
        later: those that it got afterwards, as far as they are known: by which of them a row was
            named is told by its names.
        exact: log positions tell the version for certain (the source notes its definitions). Else
            the names are what it was told by, and only generated columns may stand between.
    """

    def __init__(self, version: Contract, later: Sequence[Contract] = (), *, exact: bool) -> None:
        self._fields = streamed_fields(version)
        self.names = tuple(field.name for field in self._fields)
        known = frozenset(self.names)
        self._left_out = frozenset(version.left_out) - known
        self._singles = [] if not exact else [*_widened_floats(version, later)]
        self._enums = [c.source_name for c in version.columns if _is_enum(c.kind, c.dropped)]
        self.exact = exact
        self._candidates = list(_orders([version, *later] if exact else [version]))
        self._given: dict[tuple[str, ...], list[tuple[_Field, ...]] | None] = {}

    def read(self, image: dict[str, Any]) -> dict[str, Any]:
        """A row with the columns of its version; itself where it has them. Raises: NotTold."""
        found = tuple(image)
        if found != self.names:
            orders = self._orders_of(found)
            image = image if orders is None else self._placed(image, orders)
        if self._singles:
            # A real that was read as a double precision already has its text's digits.
            image = {**image, **{n: _single(image[n]) for n in self._singles if n in image}}
        return image

    def key_of(self, before: Image, names: Iterable[str]) -> dict[str, Any] | None:
        """The key columns (their names in this version) of a deleted row, from its `before`.

        Only these hold the row's values there, by the default replica identity. None: the row is
        named by its own version, so its message key is too. Raises: NotTold.
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

    def is_own(self, image: Image) -> bool:
        """Whether a row is named by its own version's columns."""
        return self._orders_of(tuple(image)) is None

    def _orders_of(self, found: tuple[str, ...]) -> list[tuple[_Field, ...]] | None:
        """The definitions that names are of; None: by their names the values are right."""
        if found not in self._given:
            self._given[found] = self._look_up(found)
        return self._given[found]

    def _look_up(self, found: tuple[str, ...]) -> list[tuple[_Field, ...]] | None:
        width = len(self.names)
        named, known = frozenset(found), frozenset(self.names)
        if not self.exact and named - known - self._left_out and known - named:
            return []  # of a definition in between, which nobody saw: a renamed column, perhaps
        orders = [order for order in self._candidates if _names(order) == found]
        if len(found) < width:
            # By fewer columns than there are values the connector names none, and fails; but in
            # case 2. Else a publication has some of the columns only.
            return orders if orders and self._enums else None
        if found[:width] == self.names:
            return None  # more names at the end stand for no value
        return orders if orders or self.exact or self._left_out & set(found) else None

    def _placed(
        self, image: dict[str, Any], orders: Sequence[tuple[_Field, ...]]
    ) -> dict[str, Any]:
        values = list(image.values())
        width, known = len(self.names), frozenset(self.names)
        if not orders:
            raise NotTold(self._why([n for n in self.names if n not in image], image))
        # What stands for no value is NULL, or made up where the column is NOT NULL.
        empty = [
            value is None or any(not order[place].nullable for order in orders)
            for place, value in enumerate(values)
        ]
        may_be_by_place = len(values) >= width and all(empty[width:])
        # An enum that is not NULL may have had the label that was new.
        label = any(e not in image or image[e] is not None for e in self._enums)
        if label and all(empty[p] for p, name in enumerate(image) if name not in known):
            return self._named(image, may_be_by_place)
        if len(values) < width:
            return image
        if not may_be_by_place:
            raise NotTold(self._why([n for n in self.names if n not in image], image))
        by_place = dict(zip(self.names, values, strict=False))
        for place, value in enumerate(values[:width]):
            self._check_type(place, value, orders)
        return by_place

    def _named(self, image: dict[str, Any], may_be_by_place: bool) -> dict[str, Any]:
        """A row that may be named rightly, with values that were left out."""
        lost = [name for name in self.names if name not in image]
        if lost:
            raise NotTold(self._why(lost, image))
        by_name = {name: image[name] for name in self.names}
        unlike = [n for n, v in zip(self.names, image.values(), strict=False) if by_name[n] != v]
        if unlike and may_be_by_place:
            raise NotTold(self._why(unlike, image))
        return by_name

    def _check_type(self, place: int, value: Any, orders: Sequence[tuple[_Field, ...]]) -> None:
        """Refuse a value that was read as another type, or may stand for a NULL that was read as
        one of a NOT NULL column: the connector makes up a value then."""
        own = self._fields[place]
        if value is None:
            return
        given = [order[place] for order in orders]
        fits = given and all(
            (field.name == own.name or field.pg_type == own.pg_type or own.form == field.form != "")
            and (field.nullable or not own.nullable)
            for field in given
        )
        if not fits:
            raise NotTold(self._why([own.name], [f.name for order in orders[:1] for f in order]))

    def _why(self, names: Iterable[str], image: Iterable[str]) -> str:
        shown = ", ".join(sorted(names)) or ", ".join(self.names)
        given = ", ".join(image)
        return (
            f"the connector named the event's values by another definition of the table ({given}), "
            f"and the value of column {shown} cannot be told; "
            "a new snapshot of the table brings its row"
        )


def _widened_floats(version: Contract, later: Sequence[Contract]) -> Iterator[str]:
    """The columns of type real that became double precision afterwards."""
    doubles = {c.attnum for each in later for c in each.columns if c.kind == "float64"}
    for column in version.columns:
        if column.kind == "float32" and not column.dropped and column.attnum in doubles:
            yield column.source_name


def _single(value: Any) -> Any:
    """The double that Postgres's cast of the real makes, whichever of the two was read."""
    if not isinstance(value, float):
        return value  # NULL, or a word
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return value


def streamed_fields(contract: Contract) -> tuple[_Field, ...]:
    """The columns of a version's streamed rows, in their order there."""
    return tuple(_Field.of(column) for column in contract.columns if not column.dropped)


def _orders(versions: Iterable[Contract]) -> Iterator[tuple[_Field, ...]]:
    """The columns that the connector may have named a row by: with generated ones, and without."""
    for contract in versions:
        yield streamed_fields(contract)
        numbers = [c.attnum for c in contract.columns if not c.dropped]
        if contract.left_out and len(contract.left_out) == len(contract.left_out_at):
            placed = [*zip(numbers, streamed_fields(contract), strict=True)]
            for name, at in zip(contract.left_out, contract.left_out_at, strict=True):
                placed.append((at[0], _Field(name, *at[1:])))
            yield tuple(field for _, field in sorted(placed, key=lambda item: item[0] or 0))


def _names(order: Iterable[_Field]) -> tuple[str, ...]:
    return tuple(field.name for field in order)


def _is_enum(kind: str, dropped: bool) -> bool:
    return kind == _ENUM and not dropped

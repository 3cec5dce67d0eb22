"""A column of a contract, and the kind of its values as the source's catalog describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from spark_streaming.contract.kinds import (
    ARRAY,
    DECIMAL_DIGITS_MAX,
    KIND_OF_TYPE,
    TEXT_AS_IS,
    Kind,
    kind_named,
    list_of,
)


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    Args:
        name: the column in silver (the source's name wherever Delta can hold it).
        pg_type: the source's type as `format_type` prints it.
        kind: a name in `kinds.KINDS`, or ARRAY.
        nullable: whether the source allows NULL (silver's columns always do).
        precision, scale: of a decimal, or of an array's decimal elements.
        element: the kind of an array's elements.
        toastable: whether Postgres may leave the value out of an update that did not change it.
        missing_value: the default, as text, of rows that are older than the column.
        source: the column's name in the source, if silver's differs.
        base_type: `pg_type.typname` of the type under all domains (of the element, for an array).
        attnum: the column's number in the source, which stays when it is renamed; None if a
            previous release read the contract.
        labels: the labels of an enum, in the source's order.
        filled_by: the default's expression, if Postgres computed a value for each older row when
            the column was added (`gen_random_uuid()`). There are no events of these values.
        dropped: whether the source dropped the column; silver keeps its values.
        xid: the transaction that last changed the column.
    """

    name: str
    pg_type: str
    kind: str
    nullable: bool = True
    precision: int | None = None
    scale: int | None = None
    element: str | None = None
    toastable: bool = False
    missing_value: str | None = None
    source: str | None = None
    base_type: str = ""
    attnum: int | None = None
    labels: tuple[str, ...] = ()
    filled_by: str | None = None
    dropped: bool = False
    xid: int | None = None

    @property
    def source_name(self) -> str:
        """The column's name in the source and in its events."""
        return self.source if self.source is not None else self.name

    @property
    def value_kind(self) -> Kind:
        """How the column's values are carried. Raises: ValueError for an unknown kind."""
        return _value_kind(self.kind, self.element, self.precision, self.scale)

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of the column in silver. Raises: ValueError for an unknown kind."""
        return self.value_kind.arrow

    @property
    def is_text(self) -> bool:
        """Whether silver's column is text."""
        return self.arrow_type == pa.string()

    @property
    def is_array(self) -> bool:
        """Whether the source has an array, even if silver has its text."""
        return self.kind == ARRAY or self.pg_type.endswith("[]")

    @property
    def item(self) -> Column:
        """A column of an array's items."""
        pg_type = self.pg_type.removesuffix("[]")
        return replace(self, pg_type=pg_type, kind=self.element or "", element=None)

    @property
    def as_text(self) -> Column:
        """The column carried as the text that Postgres prints."""
        return replace(self, kind=TEXT_AS_IS, element=None, precision=None, scale=None)

    @property
    def may_be_text(self) -> bool:
        """Whether the column may be carried as text by choice.

        This is so for types with values that silver's types cannot hold. Lists of floats are
        excluded: silver's values do not show which digits Postgres would print.
        """
        if self.kind == ARRAY and self.item.value_kind.is_float:
            return False
        return bool(self.value_kind.unsupported) or self.kind == TEXT_AS_IS

    def event_value(self, text: str | None) -> Any:
        """Return a value as events have it, from Postgres's text; see `Kind.event_value`."""
        return None if text is None else self.value_kind.event_value(text)


@lru_cache(maxsize=1024)
def _value_kind(name: str, element: str | None, precision: int | None, scale: int | None) -> Kind:
    if name == ARRAY:
        return list_of(_value_kind(element or "", None, precision, scale))
    kind = kind_named(name)
    if not pa.types.is_decimal(kind.arrow):
        return kind
    return replace(kind, arrow=pa.decimal128(precision or DECIMAL_DIGITS_MAX, scale or 0))


def kind_of(typname: str, typtype: str, typmod: int) -> tuple[str, int | None, int | None]:
    """Return the (kind, precision, scale) of a base type as the catalog describes it.

    Args:
        typname: `pg_type.typname` of a type that is neither a domain nor an array.
        typtype: `pg_type.typtype` (`e` is an enum).
        typmod: the type modifier; -1 is none.
    A numeric without a precision, or beyond 38 digits, is `text_as_is`, so that every value fits.
    """
    if typtype == "e":
        return "enum", None, None
    if typname == "numeric":
        return _numeric(typmod)
    return KIND_OF_TYPE.get(typname, TEXT_AS_IS), None, None


def _numeric(typmod: int) -> tuple[str, int | None, int | None]:
    if typmod < 4:
        return TEXT_AS_IS, None, None
    precision = ((typmod - 4) >> 16) & 0xFFFF
    scale = ((typmod - 4) & 0x7FF ^ 1024) - 1024  # an 11-bit signed number since Postgres 15
    if scale < 0:  # numeric(2,-3) holds up to 99000
        precision, scale = precision - scale, 0
    precision = max(precision, scale)  # numeric(3,5) holds 0.00999
    if precision > DECIMAL_DIGITS_MAX:
        return TEXT_AS_IS, None, None
    return "decimal", precision, scale

"""The closed set of column kinds: how a Postgres type is carried into Arrow and Delta."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

DECIMAL_DIGITS_MAX = 38

# Kind -> Arrow type, for the kinds that need no parameter. Delta has no time of day and no
# uuid, json or enum: those are text. `timestamp` is Delta's timestamp without zone.
_PLAIN: dict[str, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "uuid": pa.string(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.string(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "json": pa.string(),
    "enum": pa.string(),
    "text_as_is": pa.string(),
}
KINDS = frozenset(_PLAIN) | {"decimal", "array"}
TEXT_KINDS = frozenset({"text", "uuid", "time", "json", "enum", "text_as_is"})

# Postgres base type (pg_type.typname) -> kind. All other types are `text_as_is`.
_KIND_OF_TYPE = {
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "oid": "int64",
    "float4": "float32",
    "float8": "float64",
    "bool": "bool",
    "text": "text",
    "varchar": "text",
    "bpchar": "text",
    "name": "text",
    "citext": "text",
    "uuid": "uuid",
    "bytea": "bytes",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "json": "json",
    "jsonb": "json",
}


# Values that silver's column of a kind cannot hold: a row with one goes to quarantine.
_YEARS = "infinity, years before 1 and after 9999"
_UNSUPPORTED = {"decimal": "NaN", "date": _YEARS, "timestamp": _YEARS, "timestamptz": _YEARS}


def unsupported_values(kind: str, *, array: bool = False) -> str:
    """Describe the values of its type that a silver column cannot hold; "" if it holds all.

    Args:
        kind: the kind of the column, or of its elements if it is an `array`.
    """
    shape = "more than one dimension, bounds that do not start at 1" if array else ""
    return "; ".join(part for part in (_UNSUPPORTED.get(kind, ""), shape) if part)


def may_be_text(column: Column) -> bool:
    """Whether a column may be carried by choice as the text that Postgres prints.

    This holds for types with values that silver's types cannot hold. Lists of floats are excluded:
    from silver's values it is unknown which digits Postgres would print.
    """
    if column.kind == "array":
        return column.element not in ("float32", "float64")
    return column.kind in _UNSUPPORTED or column.kind == "text_as_is"


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    Args:
        name: the column in silver (the source's name wherever Delta can hold it).
        pg_type: the source's type as `format_type` prints it.
        kind: one of KINDS.
        nullable: whether the source allows NULL (silver's columns always do).
        precision, scale: of a decimal, or of an array's decimal elements.
        element: the kind of an array's elements.
        toastable: whether Postgres may leave the value out of an update that did not change it.
        missing_value: the default, as text, that rows older than the column have.
        source: the column's name in the source where silver's differs.
        base_type: `pg_type.typname` below domains (of the element, for an array).
        attnum: the column's number in the source, which stays when it is renamed; None if a previous
            release read the contract.
        labels: the labels of an enum, in the source's order.
        filled_by: the default's expression, if Postgres computed a value for each older row when the
            column was added (`gen_random_uuid()`). There are no events of these values.
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


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column in silver. Raises: ValueError for a kind not in KINDS."""
    if column.kind == "array":
        return pa.list_(_scalar_type(column.element or "", column.precision, column.scale))
    return _scalar_type(column.kind, column.precision, column.scale)


def _scalar_type(kind: str, precision: int | None, scale: int | None) -> pa.DataType:
    if kind == "decimal":
        return pa.decimal128(precision or DECIMAL_DIGITS_MAX, scale or 0)
    try:
        return _PLAIN[kind]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        raise ValueError(f"unknown column kind `{kind}`\nhint: known are {known}") from None


def kind_of(typname: str, typtype: str, typmod: int) -> tuple[str, int | None, int | None]:
    """Return the (kind, precision, scale) of a base type as the catalog describes it.

    Args:
        typname: `pg_type.typname` of a type that is neither a domain nor an array.
        typtype: `pg_type.typtype` (`e` is an enum).
        typmod: the type modifier; -1 is none.
    A numeric without a precision, or beyond 38 digits, is `text_as_is`: any value round-trips.
    """
    if typtype == "e":
        return "enum", None, None
    if typname == "numeric":
        return _numeric(typmod)
    return _KIND_OF_TYPE.get(typname, "text_as_is"), None, None


def _numeric(typmod: int) -> tuple[str, int | None, int | None]:
    if typmod < 4:
        return "text_as_is", None, None
    precision = ((typmod - 4) >> 16) & 0xFFFF
    scale = ((typmod - 4) & 0x7FF ^ 1024) - 1024  # an 11-bit signed number since Postgres 15
    if scale < 0:  # numeric(2,-3) holds up to 99000
        precision, scale = precision - scale, 0
    precision = max(precision, scale)  # numeric(3,5) holds 0.00999
    if precision > DECIMAL_DIGITS_MAX:
        return "text_as_is", None, None
    return "decimal", precision, scale

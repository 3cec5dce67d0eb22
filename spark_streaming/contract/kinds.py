"""The table of the kinds of values: how each Postgres type is carried, printed, compared, widened.

To add a kind, add a row to KINDS and the functions that it needs to `value_forms`. All other code
looks kinds up here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from spark_streaming.contract import value_forms as forms
from spark_streaming.contract.postgres_text import array_literal

DECIMAL_DIGITS_MAX = 38
TEXT_AS_IS, ARRAY = "text_as_is", "array"
CAST = "{}::text"
# Values that silver's column of a kind cannot hold: a row with one goes to quarantine.
_YEARS = "infinity, years before 1 and after 9999"


@dataclass(frozen=True)
class Kind:
    """How values of some Postgres types are carried and compared.

    Args:
        pg_types: the Postgres base types (`pg_type.typname`) of the kind.
        arrow: the type of silver's column, from which Delta's and Spark's follow.
        from_events: makes an Arrow column of the values in events (None for NULL). Raises:
            `value_forms.WrongType`, ValueError or Arrow's errors if one of them does not fit.
        text: the canonical text of a value in silver (see `canonical`).
        texts: the same texts for a whole column, in a fifth of the time. Arrow's own texts, unless
            `text` gives others; None: `text` is called for each value.
        item_text: the text of an array's item before it is quoted, if it differs from `text`.
        source: the SQL that computes the canonical text of the expression `{}` in the source.
        event_value: converts the text that Postgres prints for a value (under `TimeZone=UTC`,
            `DateStyle=ISO`, `bytea_output=hex`) to the value in events. Raises: ValueError.
        widens_to: kinds that hold each of its values unchanged (a decimal if it has enough digits,
            text if it is long enough). For an array, the kinds that its items widen to.
        digits: an integer's greatest number of digits.
        unsupported: the values of its types that silver's column cannot hold, in words; "" if none.
        one_form: whether each value has one form in events, so that its bytes can be searched for.
    """

    pg_types: tuple[str, ...]
    arrow: pa.DataType
    from_events: Callable[[forms.Values, pa.DataType], pa.Array]
    text: Callable[[Any], str] = str
    texts: Callable[[pa.Array], list[str | None]] | None = forms.arrow_texts
    item_text: Callable[[Any], str] | None = None
    source: str = CAST
    event_value: Callable[[str], Any] = str
    widens_to: tuple[str, ...] = ()
    digits: int = 0
    unsupported: str = ""
    one_form: bool = False

    @property
    def maskable(self) -> bool:
        """Whether silver and the source have the same text of a value, so that masks agree."""
        return self.one_form and bool(pa.types.is_string(self.arrow))

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return bool(pa.types.is_floating(self.arrow))


def _integer(pg_types: tuple[str, ...], arrow: pa.DataType, digits: int, *widens_to: str) -> Kind:
    return Kind(
        pg_types,
        arrow,
        forms.integers,
        event_value=int,
        widens_to=(str(arrow), *widens_to, "decimal"),
        digits=digits,
        one_form=True,
    )


def _float(pg_types: tuple[str, ...], arrow: pa.DataType, *widens_to: str) -> Kind:
    return Kind(
        pg_types,
        arrow,
        forms.floats,
        text=forms.float_text,
        texts=forms.float_texts,
        # NaN has many byte patterns, which all count as equal.
        source="case when {0} = 'NaN' then 'NaN' else encode(float8send({0}), 'hex') end",
        event_value=float,
        widens_to=widens_to,
    )


def _text(*pg_types: str, event_value: Callable[[str], str] = str, one_form: bool = True) -> Kind:
    return Kind(
        pg_types,
        pa.string(),
        forms.strings,
        event_value=event_value,
        widens_to=("text",),
        one_form=one_form,
    )


def _timestamp(pg_type: str, arrow: pa.DataType) -> Kind:
    return Kind(
        (pg_type,),
        arrow,
        forms.times,
        text=forms.timestamp_text,
        texts=forms.timestamp_texts,
        event_value=forms.iso_time,
        unsupported=_YEARS,
    )


# Delta has no time of day, uuid, json or enum: those are text. Postgres's `timestamp` is Delta's
# `timestamp` without zone. A type that no row names is `text_as_is`.
KINDS: dict[str, Kind] = {
    "int16": _integer(("int2",), pa.int16(), 5, "int32", "int64"),
    "int32": _integer(("int4",), pa.int32(), 10, "int64"),
    "int64": _integer(("int8", "oid"), pa.int64(), 19),
    "decimal": Kind(
        (),  # `types.kind_of` decides: only a numeric with a precision is one
        pa.decimal128(DECIMAL_DIGITS_MAX),
        forms.decimals,
        text=forms.decimal_text,
        texts=forms.decimal_texts,
        widens_to=("decimal",),
        unsupported="NaN",
        one_form=True,
    ),
    "float32": _float(("float4",), pa.float32(), "float64"),
    "float64": _float(("float8",), pa.float64()),
    "bool": Kind(
        ("bool",),
        pa.bool_(),
        forms.booleans,
        text=lambda value: "true" if value else "false",
        item_text=lambda value: "t" if value else "f",
        event_value=forms.boolean_word,
        one_form=True,
    ),
    "text": _text("text", "varchar", "bpchar", "name", "citext"),
    "uuid": _text("uuid", event_value=str.lower),
    "enum": _text(),  # by `pg_type.typtype`
    "json": _text("json", "jsonb", one_form=False),
    "bytes": Kind(
        ("bytea",),
        pa.binary(),
        forms.base64_bytes,
        text=bytes.hex,
        texts=None,
        item_text=lambda value: "\\x" + value.hex(),
        source="encode({}, 'hex')",
        event_value=forms.hex_as_base64,
        one_form=True,
    ),
    "date": Kind(("date",), pa.date32(), forms.times, unsupported=_YEARS, one_form=True),
    "time": Kind(("time",), pa.string(), forms.times),
    "timestamp": _timestamp("timestamp", pa.timestamp("us")),
    "timestamptz": _timestamp("timestamptz", pa.timestamp("us", "UTC")),
    TEXT_AS_IS: Kind(
        (), pa.string(), lambda values, _: pa.array(forms.as_texts(values), pa.string())
    ),
}
KIND_OF_TYPE = {pg_type: name for name, kind in KINDS.items() for pg_type in kind.pg_types}

# Text types that neither pad nor strip.
PLAIN_TEXT_TYPES = frozenset({"text", "varchar", "citext", "name"})
# For these types a cast to text differs from the type's output, which events have: the cast strips
# the blanks of char(n), adds a mask to an inet without one, and keeps the encoding of an xml.
_OUTPUT = "case when {0} is not null then concat({0}) end"
SOURCE_OF_TYPE = {"bpchar": _OUTPUT, "inet": _OUTPUT, "xml": _OUTPUT, "money": "{}::numeric::text"}


def kind_named(name: str) -> Kind:
    """Return a row of KINDS. Raises: ValueError for another name."""
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(sorted([*KINDS, ARRAY]))
        raise ValueError(f"unknown column kind `{name}`\nhint: known are {known}") from None


def list_of(kind: Kind) -> Kind:
    """Return the kind of one-dimensional arrays of a kind's values."""
    item_text = kind.item_text or kind.text
    source = CAST
    if kind.source != CAST and kind.item_text is None:
        # The array's cast would print other texts of the items than are compared.
        item = kind.source.format("item")
        items = f"select {item} from unnest({{0}}) with ordinality as u(item, n) order by n"
        source = f"case when {{0}} is not null then array({items})::text end"
    shape = "more than one dimension, bounds that do not start at 1"
    return Kind(
        (),
        pa.list_(kind.arrow),
        partial(forms.lists, kind.from_events, kind.event_value),
        text=lambda items: array_literal([None if i is None else item_text(i) for i in items]),
        texts=None,
        source=source,
        widens_to=kind.widens_to,
        unsupported="; ".join(part for part in (kind.unsupported, shape) if part),
    )

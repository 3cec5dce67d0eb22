"""Converts event values into Arrow, a whole column at a time."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.postgres_text import array_items, raw_value
from spark_streaming.contract.types import DECIMAL_DIGITS_MAX, Column, arrow_type

Values = Sequence[Any]
_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError)
_NONE = type(None)
_SPECIAL_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
# Debezium's words for a numeric's special values, and Postgres's.
_SPECIAL_NUMERICS = {
    "NAN": "NaN",
    "POSITIVE_INFINITY": "Infinity",
    "NEGATIVE_INFINITY": "-Infinity",
}
# The years that Debezium writes for a timestamp's infinities. They mean nothing else: Postgres's
# timestamps end in the year 294276.
_INFINITE_TIMES = {"+292278994-": '"infinity"', "-292275055-": '"-infinity"'}
_DECIMAL_LENGTH_MAX = 41  # `-0.` and 38 digits
_SHOWN_LENGTH_MAX = 80


class WrongType(TypeError):
    """A value has another type than the contract says; the contract may be out of date."""


def convert(column: Column, values: Values) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Convert a column's event values to Arrow.

    Args:
        column: the contract's column.
        values: the values as parsed from JSON; None for NULL.
    Returns: the array, with NULL for each bad value; and index -> (rule, reason) of bad values.
    """
    build = _builder(column)
    bad: dict[int, tuple[str, str]] = {}
    return _convert(column, build, list(values), 0, bad), bad


def _convert(
    column: Column,
    build: Callable[[Values], pa.Array],
    values: list[Any],
    start: int,
    bad: dict[int, tuple[str, str]],
) -> pa.Array:
    """Convert all values at once; after a failure each half by itself, to find the bad values."""
    try:
        return build(values)
    except _ERRORS as error:
        if len(values) == 1:
            bad[start] = _reason(column, values[0], error)
            return pa.nulls(1, arrow_type(column))
    middle = len(values) // 2
    halves = (
        _convert(column, build, values[:middle], start, bad),
        _convert(column, build, values[middle:], start + middle, bad),
    )
    return pa.concat_arrays(list(halves))


def _reason(column: Column, value: Any, error: Exception) -> tuple[str, str]:
    shown = orjson.dumps(value).decode()
    if column.kind == "timestamp":
        shown = _INFINITE_TIMES.get(shown[1:12], shown)
    if len(shown) > _SHOWN_LENGTH_MAX:
        shown = shown[:_SHOWN_LENGTH_MAX] + "..."
    rule = "wrong-type" if isinstance(error, WrongType) else "value-out-of-range"
    reason = f"column {column.name} ({column.pg_type}) cannot hold {shown}: {error}"
    return rule, reason


def _builder(column: Column) -> Callable[[Values], pa.Array]:
    if column.kind == "array":
        element = Column(
            column.name,
            column.pg_type,
            column.element or "text",
            precision=column.precision,
            scale=column.scale,
            base_type=column.base_type,
        )
        build_items, target = _builder(element), arrow_type(column)
        return lambda values: _array(build_items, element.kind, target, values)
    if column.kind == "text_as_is":
        return lambda values: _as_text(column, values)
    target = arrow_type(column)
    build = _BUILDERS[column.kind]
    return lambda values: build(values, target)


def _expect(values: Values, *allowed: type) -> set[type]:
    # Arrow does not check this strictly: it makes 1 of 1.5 in an integer column.
    kinds = set(map(type, values))
    for kind in kinds:
        if kind is not _NONE and kind not in allowed:
            raise WrongType(f"expected {allowed[0].__name__}, found {kind.__name__}")
    return kinds


def _integer(values: Values, target: pa.DataType) -> pa.Array:
    _expect(values, int)
    return pa.array(values, target)


def _float(values: Values, target: pa.DataType) -> pa.Array:
    kinds = _expect(values, float, int, str)
    if kinds & {str, int}:
        values = [_one_float(value) for value in values]
    return pa.array(values, target)


def _one_float(value: Any) -> float | None:
    if isinstance(value, str):
        if value not in _SPECIAL_FLOATS:
            raise WrongType("expected float, found str")
        return _SPECIAL_FLOATS[value]
    return None if value is None else float(value)


def _bool(values: Values, target: pa.DataType) -> pa.Array:
    _expect(values, bool)
    return pa.array(values, target)


def _text(values: Values, target: pa.DataType) -> pa.Array:
    _expect(values, str)
    return pa.array(values, target)


def _cast(values: Values, target: pa.DataType) -> pa.Array:
    return _after_christ(_text(values, pa.string())).cast(target)


def _cast_without_zone(values: Values, target: pa.DataType) -> pa.Array:
    # Debezium appends a meaningless `Z` to timestamps without zone, dates and times.
    texts = pc.utf8_rtrim(_text(values, pa.string()), characters="Z")
    return texts if target == pa.string() else _after_christ(texts).cast(target)


def _after_christ(texts: pa.Array) -> pa.Array:
    # ISO's year 0 is 1 BC: Arrow accepts it, but neither Python nor Spark can read it back.
    if pc.any(pc.starts_with(texts, "0000")).as_py():
        raise ValueError("years begin at 1")
    return texts


def _bytes(values: Values, target: pa.DataType) -> pa.Array:
    _expect(values, str)
    decode = base64.b64decode
    return pa.array([None if v is None else decode(v, validate=True) for v in values], target)


def _array(
    element: Callable[[Values], pa.Array], kind: str, target: pa.DataType, values: Values
) -> pa.Array:
    _expect(values, str, list)
    lists = [_items(kind, value) for value in values]
    offsets = [0]
    for items in lists:
        offsets.append(offsets[-1] + len(items or ()))
    flat = element(list(chain.from_iterable(items for items in lists if items)))
    nulls = pa.array([items is None for items in lists], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, target, mask=nulls)


def _items(kind: str, value: Any) -> list[Any] | None:
    if isinstance(value, str):  # the connector sends arrays as Postgres's own literals
        items = array_items(value)
        return [None if item is None else raw_value(kind, item) for item in items]
    if value is not None and any(isinstance(item, list) for item in value):
        raise ValueError("an array of more than one dimension")
    return value


def _decimal(values: Values, target: pa.DataType) -> pa.Array:
    texts = _text(values, pa.string())
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) > _DECIMAL_LENGTH_MAX:
        # numeric(5,-2) comes with two thousand zeros after its point, which Arrow turns into 0.
        short = pc.utf8_rtrim(pc.utf8_rtrim(texts, characters="0"), characters=".")
        texts = pc.if_else(pc.match_substring(texts, "."), short, texts)
        if pc.max(pc.utf8_length(texts)).as_py() > _DECIMAL_LENGTH_MAX:
            raise ValueError(f"more than {DECIMAL_DIGITS_MAX} digits")
    return texts.cast(target)


def _as_text(column: Column, values: Values) -> pa.Array:
    kinds = _expect(values, str, int, float, bool, dict, list)
    if kinds - {str, _NONE}:
        values = [
            value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
            for value in values
        ]
    printed = _PRINTED.get(column.base_type)
    if printed is not None:
        values = [None if value is None else printed(value, column) for value in values]
    return pa.array(values, pa.string())


def _number(text: str, column: Column) -> str:
    if ",-" in column.pg_type:  # numeric(5,-2) comes with zeros after its point
        text = text.partition(".")[0]
    return _SPECIAL_NUMERICS.get(text, text)


def _day(text: str, column: Column) -> str:
    if " or " in text:  # a snapshot's value of October 1582
        raise ValueError(f"the driver gives one day for two of {column.pg_type}")
    return text


def _time(text: str, column: Column) -> str:
    """Return an event's timestamp as Postgres prints it; other text stays as it is."""
    parts = _ISO_TIME.fullmatch(text)
    if parts is None:
        return text
    if infinite := _INFINITE_TIMES.get(text[:11]):
        return infinite.strip('"')
    year, rest, fraction = int(parts[1]), parts[2], parts[3]
    fraction = (fraction or "").rstrip("0").rstrip(".")
    zone = "+00" if column.base_type == "timestamptz" else ""
    era = "" if year > 0 else " BC"
    shown = year if year > 0 else 1 - year
    return f"{shown:04}{rest.replace('T', ' ')}{fraction}{zone}{era}"


_ISO_TIME = re.compile(r"([+-]?\d{4,})(-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z")
_PRINTED = {"numeric": _number, "date": _day, "timestamp": _time, "timestamptz": _time}

_BUILDERS: dict[str, Callable[[Values, pa.DataType], pa.Array]] = {
    "int16": _integer,
    "int32": _integer,
    "int64": _integer,
    "float32": _float,
    "float64": _float,
    "bool": _bool,
    "text": _text,
    "uuid": _text,
    "json": _text,
    "enum": _text,
    "bytes": _bytes,
    "decimal": _decimal,
    "timestamptz": _cast,
    "date": _cast_without_zone,
    "time": _cast_without_zone,
    "timestamp": _cast_without_zone,
}

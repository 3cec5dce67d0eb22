"""Converts event values into Arrow, a whole column at a time, and finds those that do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa

from spark_streaming.contract.kinds import TEXT_AS_IS
from spark_streaming.contract.types import Column
from spark_streaming.contract.value_forms import Values, WrongType, as_texts

_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError)
# Debezium's words for a numeric's special values, and Postgres's.
_SPECIAL_NUMERICS = {
    "NAN": "NaN",
    "POSITIVE_INFINITY": "Infinity",
    "NEGATIVE_INFINITY": "-Infinity",
}
# The years that Debezium writes for a timestamp's infinities. They mean nothing else: Postgres's
# timestamps end in the year 294276.
_INFINITE_TIMES = {"+292278994-": '"infinity"', "-292275055-": '"-infinity"'}
_SHOWN_LENGTH_MAX = 80


def convert(column: Column, values: Values) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Convert a column's event values to Arrow.

    Args:
        column: the contract's column.
        values: the values as parsed from JSON; None for NULL.
    Returns: the array, with NULL for each bad value; and index -> (rule, reason) of bad values.
    """
    build = _builder(column)
    bad: dict[int, tuple[str, str]] = {}

    def part(values: list[Any], start: int) -> pa.Array:
        try:
            return build(values)
        except _ERRORS as error:
            if len(values) == 1:
                bad[start] = _reason(column, values[0], error)
                return pa.nulls(1, column.arrow_type)
        # Convert each half separately, to find the bad values.
        middle = len(values) // 2
        left = part(values[:middle], start)
        return pa.concat_arrays([left, part(values[middle:], start + middle)])

    return part(list(values), 0), bad


def missing_value(column: Column) -> pa.Scalar:
    """Return a column's catalog default for older rows, as an Arrow scalar; NULL without one.

    Raises: ValueError if the text is not of the column's type.
    """
    values, bad = convert(column, [column.event_value(column.missing_value)])
    if bad:
        raise ValueError(f"default of {column.name}: {bad[0][1]}")
    return values[0]


def _reason(column: Column, value: Any, error: Exception) -> tuple[str, str]:
    shown = orjson.dumps(value).decode()
    if pa.types.is_timestamp(column.arrow_type):
        shown = _INFINITE_TIMES.get(shown[1:12], shown)
    if len(shown) > _SHOWN_LENGTH_MAX:
        shown = shown[:_SHOWN_LENGTH_MAX] + "..."
    rule = "wrong-type" if isinstance(error, WrongType) else "value-out-of-range"
    reason = f"column {column.name} ({column.pg_type}) cannot hold {shown}: {error}"
    return rule, reason


def _builder(column: Column) -> Callable[[Values], pa.Array]:
    build, target = column.value_kind.from_events, column.arrow_type
    printed = _PRINTED.get(column.base_type) if column.kind == TEXT_AS_IS else None
    if printed is None:
        return lambda values: build(values, target)
    return lambda values: build(
        [None if text is None else printed(text, column) for text in as_texts(values)], target
    )


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

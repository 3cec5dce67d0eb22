"""Converts values from events to silver, and from silver to canonical text, for `kinds`.

The first half makes silver's columns from events; the second half prints them for comparison with
the source. Neither half calls the other, so that a mistake in one cannot hide a mistake in the
other.
"""

from __future__ import annotations

import base64
import datetime
import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import accumulate, chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.postgres_text import array_items

Values = Sequence[Any]
SPECIAL_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_NONE = type(None)
_DECIMAL_LENGTH_MAX = 41  # `-0.` and 38 digits
_WORDS = {"t": True, "true": True, "f": False, "false": False}
_ZONE_END = re.compile(r"(:.*[+-]\d\d)(?::?(\d\d))?$")


class WrongType(TypeError):
    """A value has another type than the contract says; the contract may be out of date."""


def expect(values: Values, *allowed: type) -> set[type]:
    """Return the types of some values of events. Raises: WrongType if one is not allowed."""
    # Arrow does not check this strictly: in an integer column it turns 1.5 into 1.
    found = set(map(type, values))
    for one in found:
        if one is not _NONE and one not in allowed:
            raise WrongType(f"expected {allowed[0].__name__}, found {one.__name__}")
    return found


def json_values(allowed: type) -> Callable[[Values, pa.DataType], pa.Array]:
    """Return the function that makes a column of values that JSON has a type for."""

    def build(values: Values, target: pa.DataType) -> pa.Array:
        expect(values, allowed)
        return pa.array(values, target)

    return build


integers, booleans, strings = json_values(int), json_values(bool), json_values(str)


def floats(values: Values, target: pa.DataType) -> pa.Array:
    if expect(values, float, int, str) & {str, int}:
        values = [_one_float(value) for value in values]
    return pa.array(values, target)


def _one_float(value: Any) -> float | None:
    if isinstance(value, str):
        if value not in SPECIAL_FLOATS:
            raise WrongType("expected float, found str")
        return SPECIAL_FLOATS[value]
    return None if value is None else float(value)


def as_texts(values: Values) -> Values:
    """Return values of events as texts; those that JSON has a type for are printed as JSON."""
    if expect(values, str, int, float, bool, dict, list) - {str, _NONE}:
        return [v if v is None or isinstance(v, str) else orjson.dumps(v).decode() for v in values]
    return values


def base64_bytes(values: Values, target: pa.DataType) -> pa.Array:
    expect(values, str)
    decode = base64.b64decode
    return pa.array([None if v is None else decode(v, validate=True) for v in values], target)


def decimals(values: Values, target: pa.DataType) -> pa.Array:
    texts = strings(values, pa.string())
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) > _DECIMAL_LENGTH_MAX:
        # A numeric(5,-2) has up to two thousand zeros after its point, which Arrow turns into 0.
        short = pc.utf8_rtrim(pc.utf8_rtrim(texts, characters="0"), characters=".")
        texts = pc.if_else(pc.match_substring(texts, "."), short, texts)
        if pc.max(pc.utf8_length(texts)).as_py() > _DECIMAL_LENGTH_MAX:
            raise ValueError("more than 38 digits")
    return texts.cast(target)


def times(values: Values, target: pa.DataType) -> pa.Array:
    texts = strings(values, pa.string())
    if not (pa.types.is_timestamp(target) and target.tz):
        # Debezium appends a meaningless `Z` to timestamps without zone, dates and times.
        texts = pc.utf8_rtrim(texts, characters="Z")
    return texts if target == pa.string() else _after_christ(texts).cast(target)


def _after_christ(texts: pa.Array) -> pa.Array:
    # ISO's year 0 is 1 BC: Arrow accepts it, but neither Python nor Spark can read it back.
    if pc.any(pc.starts_with(texts, "0000")).as_py():
        raise ValueError("years begin at 1")
    return texts


def lists(
    from_events: Callable[[Values, pa.DataType], pa.Array],
    event_value: Callable[[str], Any],
    values: Values,
    target: pa.DataType,
) -> pa.Array:
    expect(values, str, list)
    items = [_items(event_value, value) for value in values]
    offsets = list(accumulate((len(each or ()) for each in items), initial=0))
    flat = from_events(list(chain.from_iterable(each for each in items if each)), target.value_type)
    nulls = pa.array([each is None for each in items], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, target, mask=nulls)


def _items(event_value: Callable[[str], Any], value: Any) -> list[Any] | None:
    if isinstance(value, str):  # the connector sends arrays as Postgres's own literals
        return [None if item is None else event_value(item) for item in array_items(value)]
    if value is not None and any(isinstance(item, list) for item in value):
        raise ValueError("an array of more than one dimension")
    return value


def boolean_word(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(f"`{text}` is neither true nor false")
    return _WORDS[text.lower()]


def hex_as_base64(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode()


def iso_time(text: str) -> str:
    return _ZONE_END.sub(lambda zone: f"{zone[1]}:{zone[2] or '00'}", text.replace(" ", "T"))


# From here on: canonical texts of silver's values.


def float_text(value: float) -> str:
    return "NaN" if value != value else struct.pack(">d", value).hex()


def decimal_text(value: Decimal) -> str:
    return format(value, "f")


def timestamp_text(value: datetime.datetime) -> str:
    zone = "+00" if value.tzinfo else ""
    utc = value.astimezone(datetime.timezone.utc) if zone else value
    text = utc.replace(tzinfo=None).isoformat(sep=" ")
    return (text.rstrip("0") if value.microsecond else text) + zone


def arrow_texts(values: pa.Array) -> list[str | None]:
    return list(values.cast(pa.string()).to_pylist())


def float_texts(values: pa.Array) -> list[str | None]:
    wide = values.cast(pa.float64())
    digits = wide.fill_null(0.0).to_numpy(zero_copy_only=False).astype(">f8").tobytes().hex()
    return [
        None if value is None else "NaN" if value != value else digits[i * 16 : i * 16 + 16]
        for i, value in enumerate(wide.to_pylist())
    ]


def decimal_texts(values: pa.Array) -> list[str | None]:
    # Small numbers come in scientific form.
    texts = enumerate(arrow_texts(values))
    return [decimal_text(values[i].as_py()) if one and "E" in one else one for i, one in texts]


def timestamp_texts(values: pa.Array) -> list[str | None]:
    zone = "+00" if values.type.tz else ""
    texts = arrow_texts(values.cast(pa.timestamp("us")))
    return [None if one is None else one.rstrip("0").rstrip(".") + zone for one in texts]

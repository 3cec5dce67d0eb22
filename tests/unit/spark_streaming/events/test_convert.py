from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_streaming.contract.kinds import ARRAY, KINDS
from spark_streaming.contract.types import Column
from spark_streaming.events.arrow_values import convert

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["NaN", "NAN", "0000-01-01", "99999-01-01", "2026-01-01T00:00:00Z", "{1}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _convert(kind: str, *values: Any, **column: Any) -> list[Any]:
    array, bad = convert(Column("c", "pg", kind, **column), values)
    assert bad == {}
    return array.to_pylist()


def _reason(kind: str, value: Any, **column: Any) -> tuple[str, str]:
    array, bad = convert(Column("c", "pg", kind, **column), [value])
    assert array.to_pylist() == [None]
    return bad[0]


UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("int16", -32768, -32768),
        ("int64", 2**63 - 1, 2**63 - 1),
        ("float64", 1, 1.0),
        ("float64", "Infinity", math.inf),
        ("bool", True, True),
        ("text", "NUL\x00 é", "NUL\x00 é"),
        ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("bytes", "AAE=", b"\x00\x01"),
        ("bytes", "", b""),
        ("date", "2026-11-21", datetime.date(2026, 11, 21)),
        ("date", "2026-11-21Z", datetime.date(2026, 11, 21)),
        ("time", "24:00:00", "24:00:00"),
        ("timestamp", "2026-11-21T01:02:03.1Z", datetime.datetime(2026, 11, 21, 1, 2, 3, 100000)),
        (
            "timestamptz",
            "2026-11-21T01:02:03.000001Z",
            datetime.datetime(2026, 11, 21, 1, 2, 3, 1, tzinfo=UTC),
        ),
        ("json", '{"a": 1}', '{"a": 1}'),
        ("enum", "sad", "sad"),
        ("text_as_is", "1 day", "1 day"),
        ("text_as_is", {"x": 1}, '{"x":1}'),
    ],
)
def test_value_of_an_event_becomes_silvers_value(kind: str, raw: Any, value: Any) -> None:
    assert _convert(kind, raw, None) == [value, None]


def test_float4_is_read_as_four_bytes() -> None:
    [value] = _convert("float32", 1.4e-45)
    assert value == 2.0**-149


def test_not_a_number_is_kept_as_one() -> None:
    [value] = _convert("float64", "NaN")
    assert math.isnan(value)


def test_decimal_keeps_its_scale() -> None:
    assert _convert("decimal", "1.50", "-0.05", None, precision=5, scale=2) == [
        Decimal("1.50"),
        Decimal("-0.05"),
        None,
    ]


def test_decimal_with_thousands_of_zeros_keeps_its_value() -> None:
    assert _convert("decimal", "12300." + "0" * 2046, "100", precision=7, scale=0) == [12300, 100]


def test_decimal_of_38_digits_is_exact() -> None:
    text = "-0." + "123456789" * 4 + "12"
    assert _convert("decimal", text, precision=38, scale=38) == [Decimal(text)]


def test_special_values_of_a_free_numeric_are_spelled_as_postgres_does() -> None:
    values = _convert("text_as_is", "NAN", "NEGATIVE_INFINITY", "1.50", base_type="numeric")
    assert values == ["NaN", "-Infinity", "1.50"]


def test_array_is_read_from_a_literal_and_from_a_list() -> None:
    values = ["{1,NULL}", "{}", None, [7]]
    assert _convert("array", *values, element="int32") == [[1, None], [], None, [7]]


@pytest.mark.parametrize(
    ("element", "literal", "items"),
    [
        ("text", '{"a,b",NULL,"NULL"}', ["a,b", None, "NULL"]),
        ("bool", "{t,f}", [True, False]),
        ("bytes", r'{"\\x00ff"}', [b"\x00\xff"]),
        ("date", "{2026-01-02}", [datetime.date(2026, 1, 2)]),
        (
            "timestamptz",
            '{"2026-01-02 03:04:05+00"}',
            [datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)],
        ),
        ("decimal", "{1.50}", [Decimal("1.50")]),
        ("float64", "{Infinity}", [math.inf]),
    ],
)
def test_array_items_are_of_the_elements_kind(element: str, literal: str, items: list[Any]) -> None:
    assert _convert("array", literal, element=element, precision=5, scale=2) == [items]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int32", 1.5),
        ("int32", "1"),
        ("int32", True),
        ("bool", 1),
        ("text", 5),
        ("float64", "1.5"),
        ("bytes", 5),
    ],
)
def test_value_of_another_type_is_refused_and_never_bent(kind: str, value: Any) -> None:
    rule, _ = _reason(kind, value)
    assert rule == "wrong-type"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int16", 32768),
        ("decimal", "NAN"),
        ("decimal", "1234.5"),
        ("decimal", "1.234"),
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "99999-12-31"),
        ("timestamp", "+292278994-08-16T23:00:00Z"),
        ("timestamp", "-0043-03-15T12:00:00Z"),
        ("timestamp", "0000-03-15T12:00:00Z"),
        ("date", "0000-03-15"),
        ("timestamptz", "0000-03-15T12:00:00Z"),
        ("timestamptz", "-infinity"),
        ("bytes", "!"),
        ("array", "{{1,2}}"),
        ("array", "[2:3]={7,8}"),
    ],
)
def test_value_that_silver_cannot_hold_is_refused(kind: str, value: Any) -> None:
    rule, _ = _reason(kind, value, precision=5, scale=2, element="int32")
    assert rule == "value-out-of-range"


def test_reason_names_the_column_its_type_and_the_value() -> None:
    assert _reason("int32", "x" * 100) == (
        "wrong-type",
        'column c (pg) cannot hold "' + "x" * 79 + "...: expected int, found str",
    )


def test_bad_values_are_found_among_good_ones() -> None:
    values = [str(number) for number in range(1000)]
    values[17] = values[900] = "NAN"
    array, bad = convert(Column("c", "numeric(5,0)", "decimal", precision=5, scale=0), values)
    assert sorted(bad) == [17, 900]
    assert array.null_count == 2
    assert array[999].as_py() == 999


@given(st.sampled_from([*KINDS, ARRAY]), st.sampled_from([*KINDS]), st.lists(JSON))
def test_no_value_whatever_stops_the_others(kind: str, element: str, values: list[Any]) -> None:
    column = Column("c", "pg", kind, precision=5, scale=2, element=element)
    array, bad = convert(column, values)
    read_back = array.to_pylist()
    assert len(read_back) == len(values)
    for number, value in enumerate(values):
        assert (read_back[number] is None) == (value is None or number in bad)


def test_an_infinite_timestamp_is_told_by_its_name() -> None:
    column = Column("at", "timestamp without time zone", "timestamp", base_type="timestamp")
    _, bad = convert(column, ["+292278994-08-16T23:00:00Z", "-292275055-05-16T23:00:00Z"])
    assert 'cannot hold "infinity"' in bad[0][1]
    assert 'cannot hold "-infinity"' in bad[1][1]


def test_a_day_that_a_snapshot_cannot_tell_from_another_is_refused() -> None:
    column = Column("day", "date", "date", base_type="date")
    _, bad = convert(column, ["1582-10-10 or 1582-10-20", "1582-10-04"])
    assert list(bad) == [0]


@pytest.mark.parametrize(
    ("pg_type", "base_type", "sent", "printed"),
    [
        ("timestamp(6)", "timestamp", "2026-01-02T03:04:05.120000Z", "2026-01-02 03:04:05.12"),
        ("timestamp", "timestamp", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05"),
        ("timestamp", "timestamp", "-0043-03-15T12:34:56.789012Z", "0044-03-15 12:34:56.789012 BC"),
        ("timestamp", "timestamp", "0000-03-15T12:00:00Z", "0001-03-15 12:00:00 BC"),
        ("timestamp", "timestamp", "+10000-01-01T00:00:00Z", "10000-01-01 00:00:00"),
        ("timestamp", "timestamp", "+292278994-08-16T23:00:00Z", "infinity"),
        ("timestamp", "timestamp", "-292275055-05-16T16:47:04.192Z", "-infinity"),
        ("timestamptz", "timestamptz", "2026-01-02T03:04:05.5Z", "2026-01-02 03:04:05.5+00"),
        ("timestamptz", "timestamptz", "-0043-03-15T12:00:00Z", "0044-03-15 12:00:00+00 BC"),
        ("timestamptz", "timestamptz", "infinity", "infinity"),
        ("timestamptz", "timestamptz", "2026-01-02 00:00:00+00", "2026-01-02 00:00:00+00"),
        ("timestamp[]", "timestamp", '{{"2026-01-02 00:00:00"}}', '{{"2026-01-02 00:00:00"}}'),
        ("date", "date", "0044-03-15 BC", "0044-03-15 BC"),
        ("numeric(10,2)", "numeric", "NAN", "NaN"),
        ("numeric(5,-2)", "numeric", "9999900.00", "9999900"),
        ("integer[]", "int4", "[2:3]={7,8}", "[2:3]={7,8}"),
    ],
)
def test_a_column_that_is_text_by_choice_holds_what_postgres_prints(
    pg_type: str, base_type: str, sent: str, printed: str
) -> None:
    column = Column("c", pg_type, "text_as_is", base_type=base_type)
    values, bad = convert(column, [sent, None])
    assert (values.to_pylist(), bad) == ([printed, None], {})


def test_a_day_that_may_be_two_is_refused_as_text_too() -> None:
    column = Column("c", "date", "text_as_is", base_type="date")
    _, bad = convert(column, ["1582-10-10 or 1582-10-20"])
    assert bad[0][0] == "value-out-of-range"

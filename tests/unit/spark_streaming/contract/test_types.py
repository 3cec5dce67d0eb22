from __future__ import annotations

import pyarrow as pa
import pytest

from spark_streaming.contract.kinds import ARRAY, KINDS, kind_named, list_of
from spark_streaming.contract.types import Column, kind_of


def _typmod(precision: int, scale: int) -> int:
    return ((precision << 16) | (scale & 0x7FF)) + 4


@pytest.mark.parametrize(
    ("precision", "scale", "expected"),
    [
        (10, 2, ("decimal", 10, 2)),
        (38, 0, ("decimal", 38, 0)),
        (38, 38, ("decimal", 38, 38)),
        (2, -3, ("decimal", 5, 0)),
        (3, 5, ("decimal", 5, 5)),
        (39, 0, ("text_as_is", None, None)),
        (37, -2, ("text_as_is", None, None)),
    ],
)
def test_numeric_is_a_decimal_where_38_digits_hold_it(
    precision: int, scale: int, expected: tuple[str, int | None, int | None]
) -> None:
    assert kind_of("numeric", "b", _typmod(precision, scale)) == expected


def test_numeric_without_precision_is_carried_as_its_text() -> None:
    assert kind_of("numeric", "b", -1) == ("text_as_is", None, None)


@pytest.mark.parametrize(
    ("typname", "kind"),
    [("int8", "int64"), ("bpchar", "text"), ("jsonb", "json"), ("interval", "text_as_is")],
)
def test_base_type_has_one_kind(typname: str, kind: str) -> None:
    assert kind_of(typname, "b", -1)[0] == kind


def test_enum_is_an_enum_whatever_its_name() -> None:
    assert kind_of("int4", "e", -1)[0] == "enum"


def test_every_kind_has_an_arrow_type() -> None:
    for kind in KINDS:
        column = Column("c", "?", kind, precision=5, scale=2)
        listed = Column("c", "?[]", ARRAY, precision=5, scale=2, element=kind)
        assert listed.arrow_type == pa.list_(column.arrow_type)


def test_array_of_decimals_keeps_precision_and_scale() -> None:
    column = Column("c", "numeric(5,2)[]", "array", precision=5, scale=2, element="decimal")
    assert column.arrow_type == pa.list_(pa.decimal128(5, 2))


def test_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown column kind `complex`\nhint: known are array"):
        _ = Column("c", "?", "complex").arrow_type


def test_what_a_column_cannot_hold_is_told_in_words() -> None:
    assert kind_named("decimal").unsupported == "NaN"
    assert kind_named("int64").unsupported == ""
    assert list_of(kind_named("date")).unsupported.startswith(
        "infinity, years before 1 and after 9999; more"
    )


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int64", "-7", -7),
        ("bool", "t", True),
        ("bool", "false", False),
        ("bytes", r"\x00ff", "AP8="),
        ("timestamp", "2026-01-01 10:00:00.5", "2026-01-01T10:00:00.5"),
        ("timestamptz", "2026-01-01 10:00:00+00", "2026-01-01T10:00:00+00:00"),
        ("timestamptz", "2026-01-01 10:00:00+05:30", "2026-01-01T10:00:00+05:30"),
        ("decimal", "1.50", "1.50"),
    ],
)
def test_default_in_postgres_text_becomes_what_events_carry(
    kind: str, text: str, value: object
) -> None:
    assert Column("c", "?", kind).event_value(text) == value

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_streaming.contract.postgres_text import array_items, array_literal, raw_value


@given(st.lists(st.none() | st.text()))
def test_array_literal_is_read_back_as_the_items(items: list[str | None]) -> None:
    assert array_items(array_literal(items)) == items


@pytest.mark.parametrize(
    ("literal", "items"),
    [
        ("{}", []),
        ("{1,NULL,3}", ["1", None, "3"]),
        ('{"NULL",""," "}', ["NULL", "", " "]),
        (r'{"q\"uote","back\\slash","a,b","{x}"}', ['q"uote', "back\\slash", "a,b", "{x}"]),
    ],
)
def test_array_literal_of_postgres_is_read(literal: str, items: list[str | None]) -> None:
    assert array_items(literal) == items
    assert array_literal(items) == literal


@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        ("{{1,2},{3,4}}", "more than one dimension"),
        ('{{"a,b"}}', "more than one dimension"),
        ("[2:3]={7,8}", "bounds do not start at 1"),
        ("1,2", "not an array literal"),
        ('{"a', "not an array literal"),
        ('{"a}', "open quote"),
    ],
)
def test_array_that_a_list_cannot_hold_is_refused(literal: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        array_items(literal)


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
    assert raw_value(kind, text) == value

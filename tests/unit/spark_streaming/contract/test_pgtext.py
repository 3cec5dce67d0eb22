from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_streaming.contract.postgres_text import array_items, array_literal


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

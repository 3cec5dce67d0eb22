"""Comparing rows of the source with rows of silver."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.lake.compare import DIFFERENCES_SHOWN, Difference, Row, compare_bags, compare_keyed

COLUMNS = ["id", "title"]
VALUES = st.one_of(st.none(), st.text("abn:", max_size=3))
TABLES = st.dictionaries(st.integers(0, 9).map(str), VALUES, max_size=8)


def keyed(source: list[Row], silver: list[Row]) -> list[Difference]:
    return compare_keyed(source, lambda: iter(silver), COLUMNS, [0]).differences


def test_equal_tables_in_another_order_are_equal() -> None:
    rows: list[Row] = [("1", "a"), ("2", None)]
    result = compare_keyed(rows, lambda: reversed(rows), COLUMNS, [0])
    assert result.equal
    assert result.rows == 2


def test_a_missing_row_is_named_by_its_key() -> None:
    assert keyed([("1", "a")], []) == [Difference("missing", "id=1")]


def test_a_row_that_the_source_does_not_have_is_extra() -> None:
    assert keyed([], [("7", "a")]) == [Difference("extra", "id=7")]


def test_a_differing_row_names_the_column_and_both_values() -> None:
    assert keyed([("1", "a")], [("1", "b")]) == [Difference("differs", "id=1", "title", "a", "b")]


def test_null_differs_from_the_empty_string_and_from_the_letter_n() -> None:
    assert keyed([("1", None)], [("1", "")])
    assert keyed([("1", None)], [("1", "n")])


def test_values_that_only_join_to_the_same_text_differ() -> None:
    assert compare_bags([("a", "bc")], lambda: iter([("ab", "c")]), COLUMNS).missing == 1


def test_copies_of_a_row_are_counted_in_tables_without_a_key() -> None:
    rows: list[Row] = [("1", "a"), ("1", "a")]
    short = compare_bags(rows, lambda: iter(rows[:1]), COLUMNS)
    assert (short.missing, short.extra) == (1, 0)
    long = compare_bags(rows[:1], lambda: iter(rows), COLUMNS)
    assert (long.missing, long.extra) == (0, 1)
    assert long.differences == [Difference("extra", "id=1, title=a")]


def test_only_the_first_differences_are_shown_but_all_are_counted() -> None:
    rows: list[Row] = [(str(i), "a") for i in range(DIFFERENCES_SHOWN * 3)]
    result = compare_keyed(rows, lambda: iter([]), COLUMNS, [0])
    assert result.missing == len(rows)
    assert len(result.differences) == DIFFERENCES_SHOWN


@given(TABLES, TABLES)
def test_the_counts_are_those_of_a_plain_dictionary_comparison(
    source: dict[str, str | None], silver: dict[str, str | None]
) -> None:
    result = compare_keyed(list(source.items()), lambda: iter(list(silver.items())), COLUMNS, [0])
    both = source.keys() & silver.keys()
    assert result.missing == len(source.keys() - silver.keys())
    assert result.extra == len(silver.keys() - source.keys())
    assert result.differing == sum(source[key] != silver[key] for key in both)

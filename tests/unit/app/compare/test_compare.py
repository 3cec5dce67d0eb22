"""Comparing rows of the source with rows of silver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compare.compare import DIFFERENCES_SHOWN, Comparison, Difference, Row, compare
from app.compare.spill import Spill

COLUMNS = ["id", "title"]
VALUES = st.one_of(st.none(), st.text("abn:", max_size=3))
TABLES = st.dictionaries(st.integers(0, 9).map(str), VALUES, max_size=8)
BAGS = st.lists(st.tuples(st.sampled_from(["1", "2", None]), VALUES), max_size=8)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def compared(
    scratch: Path,
    source: Sequence[Row],
    silver: Sequence[Row],
    key: Sequence[int] = (0,),
    **options: Any,
) -> Comparison:
    return compare(lambda: source, lambda: silver, COLUMNS, key, scratch=scratch, **options)


def test_equal_tables_in_another_order_are_equal(scratch: Path) -> None:
    rows: list[Row] = [("1", "a"), ("2", None)]
    result = compared(scratch, rows, rows[::-1])
    assert result.equal
    assert result.rows == 2


def test_a_missing_row_is_named_by_its_key(scratch: Path) -> None:
    result = compared(scratch, [("1", "a")], [])
    assert result.differences == (Difference("missing", "id=1"),)


def test_a_row_that_the_source_does_not_have_is_extra(scratch: Path) -> None:
    assert compared(scratch, [], [("7", "a")]).differences == (Difference("extra", "id=7"),)


def test_a_differing_row_names_the_column_and_both_values(scratch: Path) -> None:
    [found] = compared(scratch, [("1", "a")], [("1", "b")]).differences
    assert found == Difference("differs", "id=1", (("title", "a", "b"),))


def test_every_differing_column_is_named(scratch: Path) -> None:
    [found] = compared(scratch, [("1", "a")], [("2", "b")], key=()).differences[:1]
    assert found.kind in ("missing", "extra")
    three = ["id", "a", "b"]
    result = compare(
        lambda: [("1", "x", None)], lambda: [("1", "y", "")], three, [0], scratch=scratch
    )
    assert result.differences[0].columns == (("a", "x", "y"), ("b", None, ""))


def test_two_values_that_changed_places_are_found(scratch: Path) -> None:
    source: list[Row] = [("1", "10"), ("2", "20"), ("3", "30")]
    silver: list[Row] = [("1", "20"), ("2", "10"), ("3", "30")]
    result = compared(scratch, source, silver, buckets=1)
    assert (result.differing, result.missing, result.extra) == (2, 0, 0)
    assert [d.key for d in result.differences] == ["id=1", "id=2"]


def test_two_columns_that_changed_places_are_found(scratch: Path) -> None:
    assert not compared(scratch, [("1", "2")], [("2", "1")], key=()).equal


def test_a_row_that_silver_holds_twice_is_extra(scratch: Path) -> None:
    result = compared(scratch, [("1", "a")], [("1", "a"), ("1", "a")])
    assert (result.missing, result.extra, result.differing) == (0, 1, 0)
    assert result.differences == (Difference("extra", "id=1"),)


def test_null_differs_from_the_empty_string_and_from_its_name(scratch: Path) -> None:
    for text in ("", "n", "null", "NULL"):
        assert not compared(scratch, [("1", None)], [("1", text)]).equal


def test_values_that_only_join_to_the_same_text_differ(scratch: Path) -> None:
    assert compared(scratch, [("a", "bc")], [("ab", "c")], key=()).missing == 1


def test_half_a_surrogate_pair_does_not_end_the_comparison(scratch: Path) -> None:
    assert compared(scratch, [("1", "\udc80")], [("1", "\udc80")]).equal
    assert not compared(scratch, [("1", "\udc80")], [("1", "\udc81")]).equal


def test_copies_of_a_row_are_counted_in_tables_without_a_key(scratch: Path) -> None:
    rows: list[Row] = [("1", "a"), ("1", "a")]
    short = compared(scratch, rows, rows[:1], key=())
    assert (short.missing, short.extra) == (1, 0)
    long = compared(scratch, rows[:1], rows, key=())
    assert (long.missing, long.extra) == (0, 1)
    assert long.differences == (Difference("extra", "id=1, title=a"),)


def test_one_copy_too_few_among_thousands_is_named(scratch: Path) -> None:
    result = compared(scratch, [("1", "a")] * 3_000, [("1", "a")] * 2_999, key=())
    assert result.differences == (Difference("missing", "id=1, title=a"),)


def test_only_the_first_differences_are_shown_but_all_are_counted(scratch: Path) -> None:
    rows: list[Row] = [(str(i), "a") for i in range(DIFFERENCES_SHOWN * 3)]
    result = compared(scratch, rows, [])
    assert result.missing == len(rows)
    assert len(result.differences) == DIFFERENCES_SHOWN


def test_what_is_too_much_to_count_is_said_to_be_at_least_so_much(scratch: Path) -> None:
    source: list[Row] = [(str(i), "a") for i in range(200)]
    silver: list[Row] = [(str(i), "b") for i in range(200)]
    result = compared(scratch, source, silver, spilled_rows_max=50)
    assert result.at_least
    assert not result.equal
    assert 0 < result.differing < 200


def test_parts_of_a_table_sum_up() -> None:
    both = Comparison(rows=2, missing=1) + Comparison(rows=3, extra=2, at_least=True)
    assert both == Comparison(rows=5, missing=1, extra=2, at_least=True)


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path) -> None:
    compared(tmp_path, [("1", "a")], [])
    with pytest.raises(RuntimeError), Spill(tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@given(TABLES, TABLES, st.sampled_from([1, 2, 64]))
def test_the_counts_are_those_of_a_plain_dictionary_comparison(
    scratch: Path, source: dict[str, str | None], silver: dict[str, str | None], buckets: int
) -> None:
    result = compared(scratch, list(source.items()), list(silver.items()), buckets=buckets)
    both = source.keys() & silver.keys()
    assert result.missing == len(source.keys() - silver.keys())
    assert result.extra == len(silver.keys() - source.keys())
    assert result.differing == sum(source[key] != silver[key] for key in both)
    assert len(result.differences) == min(
        DIFFERENCES_SHOWN, result.missing + result.extra + result.differing
    )


@given(BAGS, BAGS, st.sampled_from([1, 64]))
def test_the_counts_of_a_table_without_a_key_are_those_of_counted_rows(
    scratch: Path, source: list[Row], silver: list[Row], buckets: int
) -> None:
    result = compared(scratch, source, silver, key=(), buckets=buckets)
    assert result.missing == sum((Counter(source) - Counter(silver)).values())
    assert result.extra == sum((Counter(silver) - Counter(source)).values())
    assert result.equal == (Counter(source) == Counter(silver))


@given(BAGS, BAGS)
def test_two_sides_are_equal_exactly_if_they_are_with_the_columns_of_a_composite_key(
    scratch: Path, source: list[Row], silver: list[Row]
) -> None:
    result = compared(scratch, source, silver, key=(0, 1), buckets=2)
    assert result.equal == (Counter(source) == Counter(silver))

"""docs/types.md agrees with the table of the type matrix."""

from __future__ import annotations

from collections import Counter

from tests.e2e.type_matrix import FILE, document
from tests.support.type_cases import TYPES


def test_the_documented_types_are_those_that_are_tested() -> None:
    hint = "run: python -m tests.e2e.type_matrix > docs/types.md"
    assert FILE.read_text() == document(), hint


def test_every_type_of_the_matrix_has_a_column_of_its_own() -> None:
    counted = Counter(each.column for each in TYPES)
    assert [name for name, count in counted.items() if count > 1] == []

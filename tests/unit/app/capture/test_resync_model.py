"""Every crash and every interleaving of a resync with writers, Debezium's window and silver's batches."""

from __future__ import annotations

import pytest

from tests.support.explorer import Counterexample, explore
from tests.unit.app.capture.resync_model import RULES, Resyncs


def test_a_resync_under_a_writer_ends_in_the_sources_rows_and_loses_none_on_its_way() -> None:
    explored = explore(Resyncs(kills=1))
    print(explored)
    assert explored.states > 5_000


def test_a_resync_of_a_table_that_is_truncated_meanwhile_ends_in_the_sources_rows() -> None:
    explored = explore(Resyncs(writes=False, truncates=True, kills=1))
    print(explored)
    assert explored.states > 2_000


@pytest.mark.parametrize("rule", sorted(RULES))
def test_without_this_rule_the_search_finds_a_row_that_is_wrong(rule: str) -> None:
    truncates = rule == "a truncated table is read again"
    with pytest.raises(Counterexample) as found:
        explore(Resyncs(RULES - {rule}, truncates=truncates, kills=0))
    print(found.value)

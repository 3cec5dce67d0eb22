"""The predicted content of silver at an instant: pinned rows plus later events equal the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.compare.digest import Row
from app.compare.prediction import Prediction
from app.compare.ranges import KeyOrder, cut
from app.compare.silver_rows import SilverRows
from spark_streaming.contract.canonical import canonical_row
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.masks import expected_in_silver
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import Changes, RawEvent
from spark_streaming.fold.keyed import fold
from spark_streaming.rules.contract_folder import treat
from spark_streaming.rules.rules import TableRules
from tests.support.examples import examples
from tests.unit.model import BAG, KEYED, Silver, Source, history, split

SEEDS = st.integers(0, 2**32)
STEPS = st.integers(0, 50)


class HeldRows:
    """The model's rows instead of a Delta table's; a condition is a test of a row."""

    def __init__(self, silver: Silver) -> None:
        self._silver = silver

    def texts(self, condition: Any = None, lsn_min: int | None = None) -> Iterator[Row]:
        for row in self._silver.rows:
            if lsn_min is None or row["_lsn"] >= lsn_min:
                text = canonical_row(self._silver.contract, self._data(row))
                if condition is None or condition(text):
                    yield text

    def values(self) -> Iterator[dict[str, Any]]:
        yield from self._silver.rows

    def _data(self, row: dict[str, Any]) -> list[Any]:
        return [row[column.name] for column in self._silver.contract.columns]


class RowOrder(KeyOrder):
    """Ranges as tests of a row's texts."""

    def silver_filter(self, ranges: Any) -> Any:
        return lambda row: self.holds(ranges, row[0])


def unchanged(changes: Changes) -> Changes:
    return changes


def predicted(
    source: Source,
    contract: Contract,
    random: Random,
    treatment: Callable[[Changes], Changes] = unchanged,
) -> Prediction:
    """Merge some of the source's events into the model, and predict with the others."""
    batches = split(source.finish(), random)
    merged = random.randint(0, len(batches))
    silver, high_water = Silver(contract), HighWater()
    for batch in batches[:merged]:
        decoded = decode(batch, contract, high_water)
        changes = treatment(decoded.changes)
        silver.merge(fold(changes, contract, silver.moved, silver.present))
        high_water = high_water.merge(decoded.high_water)
    later: list[RawEvent] = [event for batch in batches[merged:] for event in batch]
    held = cast(SilverRows, HeldRows(silver))
    return Prediction(contract, held, later, high_water, treatment)


def texts(source: Source, contract: Contract) -> Counter[Row]:
    content: Counter[Row] = Counter()
    for row, copies in source.content().items():
        content[canonical_row(contract, row)] += copies
    return content


@pytest.mark.parametrize("contract", [KEYED, BAG], ids=["with_a_key", "without_a_key"])
@settings(max_examples=examples(100))
@given(SEEDS, st.tuples(STEPS, STEPS))
def test_rows_are_predicted(contract: Contract, seed: int, steps: tuple[int, int]) -> None:
    random = Random(seed)
    source = history(random, contract, 1, steps, replays=True)
    prediction = predicted(source, contract, random)
    assert Counter(prediction.rows()) == texts(source, contract)


@settings(max_examples=examples(60))
@given(SEEDS, st.tuples(STEPS, STEPS), st.integers(1, 6))
def test_the_ranges_of_a_prediction_are_its_rows(
    seed: int, steps: tuple[int, int], parts: int
) -> None:
    random = Random(seed)
    source = history(random, KEYED, 1, steps, replays=True)
    prediction = predicted(source, KEYED, random)
    order = RowOrder(KEYED, KEYED.columns[0])
    keys = [row[0] or "" for row in prediction.rows()]
    ranges = cut(keys, order, parts)
    apart: Counter[Row] = Counter()
    for one in ranges:
        apart.update(prediction.rows(order, [one]))
    assert apart == texts(source, KEYED)


@settings(max_examples=examples(60))
@given(SEEDS, st.tuples(STEPS, STEPS), st.sampled_from([KEYED, BAG]))
def test_masked_silver_and_masked_later_events_are_what_the_source_is_expected_to_be(
    seed: int, steps: tuple[int, int], contract: Contract
) -> None:
    random = Random(seed)
    source = history(random, contract, 1, steps, replays=True)
    masks, empty = {"note": "hash", "big": "partial"}, ("note",)
    rules = TableRules("public", "films", empty_to_null=empty, masks=masks)
    prediction = predicted(source, contract, random, lambda c: treat(c, rules, b"key")[1])
    expect = expected_in_silver(contract, empty, masks, b"key")
    expected: Counter[Row] = Counter()
    for row, copies in texts(source, contract).items():
        expected[expect(row)] += copies
    assert Counter(prediction.rows()) == expected

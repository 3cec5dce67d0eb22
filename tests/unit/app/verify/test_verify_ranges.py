"""A table is divided by its key in the same way on both sides."""

from __future__ import annotations

import random
import uuid
from itertools import pairwise
from typing import Any, cast

import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compare.ranges import WHOLE, KeyOrder, KeyRange, cut, order_of, pick
from app.errors import HeadwaterError
from app.verify.verify_work import Sample
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column

INTEGER = Column("k", "bigint", "int64", base_type="int8")
TEXT = Column("k", "text", "text", base_type="text")
UUID = Column("k", "uuid", "uuid", base_type="uuid")
KEYS = {
    "integer": (INTEGER, st.integers(-(1 << 63), (1 << 63) - 1).map(str)),
    "text": (TEXT, st.text(max_size=6)),
    "uuid": (UUID, st.uuids().map(str)),
}


def order_by(column: Column) -> KeyOrder:
    return KeyOrder(Contract("public", "t", (column,), ("k",)), column)


@pytest.mark.parametrize("kind", KEYS)
@given(data=st.data())
def test_every_key_is_in_exactly_one_range_as_arrow_filters_and_as_python_does(
    kind: str, data: st.DataObject
) -> None:
    column, keys = KEYS[kind]
    order = order_by(column)
    ranges = cut(data.draw(st.lists(keys, max_size=20)), order, data.draw(st.integers(1, 9)))
    probes = data.draw(st.lists(keys, min_size=1, max_size=20))
    values = [int(p) for p in probes] if column is INTEGER else probes
    table = pa_dataset.dataset(pa.table({"k": pa.array(values, column.arrow_type)}))
    filtered = [table.to_table(filter=order.silver_filter([r])).num_rows for r in ranges]
    held = [sum(order.holds([r], probe) for probe in probes) for r in ranges]
    assert held == filtered
    assert sum(held) == len(probes)


@given(st.lists(KEYS["text"][1], min_size=1, max_size=30), st.integers(1, 40))
def test_ranges_meet_and_are_open_at_both_ends(keys: list[str], parts: int) -> None:
    ranges = cut(keys, order_by(TEXT), parts)
    assert 1 <= len(ranges) <= parts
    assert ranges[0].low is None and ranges[-1].high is None
    assert all(a.high == b.low is not None for a, b in pairwise(ranges))


def test_a_table_of_one_key_is_one_range() -> None:
    assert cut(["5"] * 100, order_by(INTEGER), 10) == WHOLE


def test_equal_parts_hold_about_equally_many_keys() -> None:
    ranges = cut([str(i) for i in range(1000)], order_by(INTEGER), 4)
    assert [r.high for r in ranges] == ["250", "500", "750", None]


def test_a_sample_takes_about_its_share_at_several_places() -> None:
    keys = [str(i) for i in range(10_000)]
    order = order_by(INTEGER)
    picked = pick(keys, order, 0.05, random.Random(7))
    assert len(picked) > 5
    taken = sum(order.holds(picked, key) for key in keys)
    assert 300 <= taken <= 700


def test_a_sample_by_a_key_of_few_values_is_not_the_whole_table() -> None:
    keys = [str(i % 7) for i in range(1_000)]
    order = order_by(INTEGER)
    [picked] = pick(keys, order, 0.1, random.Random(7))
    assert 0 < sum(order.holds([picked], key) for key in keys) < 300


def test_a_sample_of_everything_is_the_whole_table() -> None:
    assert pick(["1", "2"], order_by(INTEGER), 1.0, random.Random(7)) == WHOLE
    assert pick([], order_by(INTEGER), 0.1, random.Random(7)) == WHOLE


def test_uuids_are_ordered_as_their_bytes() -> None:
    order = order_by(UUID)
    some = [uuid.UUID(int=random.Random(3).getrandbits(128)) for _ in range(50)]
    by_text = sorted((str(u) for u in some), key=order.sort_key)
    assert by_text == [str(u) for u in sorted(some, key=lambda u: u.bytes)]


def test_the_whole_table_needs_no_filter() -> None:
    assert order_by(INTEGER).silver_filter([KeyRange()]) is None


@pytest.mark.parametrize(
    ("text", "of_a_thousand"), [("100", 0.1), ("5%", 0.05), ("2.5 %", 0.025), ("5000", 1.0)]
)
def test_a_sample_is_a_number_of_rows_or_a_share(text: str, of_a_thousand: float) -> None:
    assert Sample.parse(text).of(1000) == pytest.approx(of_a_thousand)


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-5", "1.5", "many"])
def test_what_is_no_sample_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(HeadwaterError, match="no sample") as refused:
        Sample.parse(text)
    assert "5%" in refused.value.hint


def test_a_key_that_begins_with_an_array_is_not_cut_into_ranges() -> None:
    column = Column("k", "integer[]", "array", element="int32", base_type="int4")
    assert order_of(Contract("public", "t", (column,), ("k",)), cast(Any, None)) is None

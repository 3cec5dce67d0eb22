"""Usual events, which are read in a few steps, become exactly what the full reading makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_streaming.contract.contract import Contract
from spark_streaming.events import envelope, plain_rows
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import Decoded, RawEvent
from tests.support.examples import examples
from tests.unit.debezium_events import event
from tests.unit.model import KEYED, history, split

SEEDS = st.integers(0, 2**32)
STEPS = st.integers(0, 40)
# What a document may hold in place of what is expected.
HOSTILE: Sequence[Any] = (
    None, True, 0, -1, 1.5, 2**63 - 1, 2**64, "", "7", "_1", "u", "r", "false", "last", "incremental",
    [], {}, ["id", "note", "big"], '["1","2"]', '[null,"90"]', '["1_0","9"]', '["x","9"]', '["1","x"]', '["0","9"]',
)  # fmt: skip


def _both_ways(
    events: list[RawEvent], contract: Contract, high_water: HighWater
) -> tuple[Decoded, Decoded, int]:
    """The events as they are decoded, and as they are without a shorter way; how many went the shorter way."""
    taken = 0
    taker = plain_rows.taker

    def counting(*arguments: Any) -> Any:
        take = taker(*arguments)

        def counted(one: RawEvent) -> bool:
            nonlocal taken
            done = take(one)
            taken += done
            return done

        return counted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope, "taker", counting)
        short = decode(events, contract, high_water)
        patch.setattr(envelope, "taker", lambda *_: lambda _: False)
        full = decode(events, contract, high_water)
    return short, full, taken


def _mutated(one: RawEvent, random: Random) -> RawEvent:
    """An event with some of its fields replaced, removed or added."""
    if one.value is None:
        return one
    document = json.loads(one.value)
    for _ in range(random.randint(1, 2)):
        places = [document, *(v for v in document.values() if isinstance(v, dict) and v)]
        place = random.choice(places)
        name = random.choice([*place, "ts_us", "snapshot", "new"])
        if random.random() < 0.2:
            place.pop(name, None)
        else:
            place[name] = random.choice(HOSTILE)
    return one._replace(value=json.dumps(document).encode())


@settings(max_examples=examples(150))
@given(SEEDS, st.sampled_from([1, 2]), st.tuples(STEPS, STEPS), st.booleans())
def test_a_history_is_decoded_the_same_in_both_ways(
    seed: int, partitions: int, steps: tuple[int, int], hostile: bool
) -> None:
    random = Random(seed)
    source = history(random, KEYED, partitions, steps, replays=True)
    high_water = HighWater()
    for batch in split(source.finish(), random):
        if hostile:
            batch = [_mutated(one, random) if random.random() < 0.3 else one for one in batch]
        short, full, _ = _both_ways(batch, KEYED, high_water)
        assert short == full
        high_water = high_water.merge(full.high_water)


@pytest.mark.parametrize("op", ["c", "u", "r"])
def test_a_usual_event_goes_the_shorter_way(op: str) -> None:
    one = event(op, after={"id": 1, "note": "a", "big": None}, key={"id": 1})
    short, full, taken = _both_ways([one], KEYED, HighWater())
    assert short == full
    assert (taken, len(short.changes)) == (1, 1)


def test_all_rows_of_a_first_snapshot_but_its_first_go_the_shorter_way() -> None:
    rows = [
        event("r", lsn=90, commit=None, order=None, offset=n, snapshot="true",
              after={"id": n, "note": "a", "big": None})
        for n in range(5)
    ]  # fmt: skip
    short, full, taken = _both_ways(rows, KEYED, HighWater())
    assert short == full
    assert (taken, len(short.changes)) == (4, 5)


@pytest.mark.parametrize(
    "unusual",
    [
        {"after": {"note": "a", "id": 1, "big": None}},
        {"after": {"id": 1, "note": "a"}},
        {"after": {"id": None, "note": "a", "big": None}},
        {"after": {"id": [1], "note": "a", "big": None}},
        {"after": {"id": 1, "note": "a", "big": "__debezium_unavailable_value"}},
        {"headers": {"oldkey": {"id": 2}}},
        {"order": None},
        {"order": 0},
        {"commit": None},
        {"commit": 0},
        {"lsn": 2**63 - 1},
        {"ts_us": None},
    ],
)
def test_an_unusual_event_is_read_in_full(unusual: dict[str, Any]) -> None:
    given = {"after": {"id": 1, "note": "a", "big": None}, "key": {"id": 1}, **unusual}
    short, full, taken = _both_ways([event("c", **given)], KEYED, HighWater())
    assert (short, taken) == (full, 0)


def test_a_repetition_is_read_in_full() -> None:
    row = {"id": 1, "note": "a", "big": None}
    events = [event("u", lsn=100, after=row), event("u", lsn=100, offset=101, after=row)]
    short, full, taken = _both_ways(events, KEYED, HighWater())
    assert (short, taken, short.skipped) == (full, 1, 1)

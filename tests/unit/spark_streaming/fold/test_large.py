"""Folding by key has the same effect on silver as folding whole batches, wherever the keys' tasks run."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import reduce
from random import Random
from typing import Any
from zlib import crc32

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.fold import keyed_in_parts as large
from spark_streaming.fold.fold_tasks import (
    CARRIED,
    EVENT,
    REJECT,
    REPORT,
    ROW,
    TAG,
    FoldTask,
    Report,
)
from spark_streaming.fold.keyed import Folded, fold
from spark_streaming.fold.keyed_in_parts import Before, NotFoldableByKey, fold_by_key, positions_of
from tests.support.examples import examples
from tests.unit.debezium_events import event
from tests.unit.model import KEYED, Silver, Source, split, split_apart


class Tasks:
    """Runs fold tasks here, one after the other; their inputs and outputs are pickled."""

    def __init__(self, events: list[RawEvent]) -> None:
        self._events = events

    def __call__(self, task: FoldTask, tasks: int, moving: frozenset[bytes]) -> Outcome:
        batches: list[pa.RecordBatch] = []
        for number in range(tasks):
            mine = [
                one
                for one in self._events
                if one.key not in moving and crc32(one.key or b"") % tasks == number
            ]
            batches += pickle.loads(pickle.dumps(task)).run(iter(mine))
        batches += task.forward(iter([one for one in self._events if one.key in moving]))
        return Outcome(batches)


class Outcome:
    """The tasks' output."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._batches = batches
        self.report: Report = reduce(Report.merge, self._carried(REPORT), Report())

    def _carried(self, tag: str) -> list[Any]:
        rows = [row for batch in self._batches for row in batch.to_pylist()]
        return [pickle.loads(row[CARRIED]) for row in rows if row[TAG] == tag]

    def rejects(self) -> Iterator[Reject]:
        yield from self._carried(REJECT)

    def events(self) -> list[RawEvent]:
        return self._carried(EVENT)

    def rows(self) -> list[pa.RecordBatch]:
        return [b.drop_columns([TAG, CARRIED]) for b in self._batches if b[TAG][0].as_py() == ROW]

    def close(self) -> None: ...


class Way:
    """Silver, merged from batches that are folded by key if possible, otherwise whole."""

    def __init__(self) -> None:
        self.silver = Silver(KEYED)
        self.high_water = HighWater()
        self.by_key = 0
        self.counts: list[tuple[int, int]] = []

    def take(self, events: list[RawEvent], *, large_too: bool) -> None:
        if not events:
            return
        if large_too and self._by_key(events):
            self.by_key += 1
            return
        decoded = decode(events, KEYED, self.high_water)
        folded = fold(decoded.changes, KEYED, self.silver.moved, self.silver.present)
        self.silver.merge(folded)
        self.high_water = self.high_water.merge(decoded.high_water)
        self.counts.append((len(decoded.rejects) + len(folded.rejects), decoded.skipped))

    def _by_key(self, events: list[RawEvent]) -> bool:
        before = pickle.loads(pickle.dumps(self.silver))
        sides = Before(lambda contract: before, self.silver.moved, self.silver.present)
        try:
            part = fold_by_key(
                Tasks(events), len(events), KEYED, self.high_water, sides, lambda *_: None
            )
        except NotFoldableByKey:
            return False
        assert isinstance(part.output, Outcome)
        rows = [Folded(pa.Table.from_batches([batch])) for batch in part.output.rows()]
        rows += [part.changed_keys] if part.changed_keys else []
        keys = [row["id"] for folded in rows for row in folded.rows.to_pylist()]
        assert len(keys) == len(set(keys)) == part.report.rows
        again = positions_of(Tasks(events), len(events), KEYED, self.high_water)
        assert again.high_water == part.report.high_water
        for folded in rows:
            self.silver.merge(folded)
        self.high_water = self.high_water.merge(part.report.high_water)
        assert len(list(part.rejects())) == part.report.rejected
        self.counts.append((part.report.rejected, part.report.skipped))
        return True


@settings(max_examples=examples(80))
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
)
def test_histories_folded_by_key_and_whole_end_alike(
    seed: int, partitions: int, replays: bool, toast: bool, apart: bool, interrupted: int
) -> None:
    random = Random(seed)
    source = Source(random, KEYED, partitions, toast)
    for _ in range(15):
        source.step()
    for _ in range(interrupted):
        source.interrupted_snapshot()
        for _ in range(5):
            source.step()
    source.snapshot(first=True)
    for _ in range(50):
        source.step()
        if random.random() < 0.3:
            source.send()
        if replays and random.random() < 0.1:
            source.replay()
    cut = split_apart if apart else split
    batches = cut(source.finish(), random)
    whole, parted = Way(), Way()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "TASK_EVENTS", 3)
        for batch in batches:
            whole.take(batch, large_too=False)
            parted.take(batch, large_too=True)
            assert _sorted(parted.silver) == _sorted(whole.silver)
            assert parted.high_water == whole.high_water
    assert parted.counts == whole.counts


def _sorted(silver: Silver) -> list[tuple[Any, ...]]:
    return sorted(tuple(map(str, row.values())) for row in silver.rows)


def test_key_changes_among_many_rows_are_folded_by_key_all_the_same() -> None:
    rows = [_insert(key, key) for key in range(1, 40)]
    change = {"id": 50, "note": "a", "big": "__debezium_unavailable_value"}
    moved = [
        event(
            "d", lsn=60, order=1, key={"id": 7}, before={"id": 7}, headers={"newkey": {"id": 50}}
        ),
        event("c", lsn=60, order=2, key={"id": 50}, after=change, headers={"oldkey": {"id": 7}}),
    ]
    moved = [one._replace(offset=60 + n) for n, one in enumerate(moved)]
    way = Way()
    way.take([*rows, *moved], large_too=True)
    assert way.by_key == 1
    ids = {row["id"]: row["big"] for row in way.silver.rows}
    assert ids == {**{key: "B" for key in range(1, 40) if key != 7}, 50: "B"}


def _insert(key: int, lsn: int) -> RawEvent:
    after = {"id": key, "note": "a", "big": "B"}
    return event("c", key={"id": key}, after=after, lsn=lsn, commit=1)


def test_keys_with_too_many_events_are_left_to_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_streaming.fold.fold_tasks.TASK_EVENTS_MAX", 5)
    monkeypatch.setattr(large, "TASK_EVENTS", 5)
    hot = [_insert(1, lsn) for lsn in range(2, 20)]
    sides = Before(lambda contract: None, lambda keys: {}, lambda keys: set())
    with pytest.raises(NotFoldableByKey, match="the events of a few keys take"):
        fold_by_key(Tasks(hot), len(hot), KEYED, HighWater(), sides, lambda *_: None)


def test_newer_contract_is_followed_before_anything_is_kept() -> None:
    columns = KEYED.columns[:2]
    old = Contract("public", "films", columns, key=("id",))
    sides = Before(lambda contract: None, lambda keys: {}, lambda keys: set())
    asked: list[set[str]] = []

    def follow(unknown: set[str], stale: set[str]) -> Contract | None:
        asked.append(unknown)
        return KEYED if unknown else None

    events = [_insert(1, 2), _insert(2, 3)]
    part = fold_by_key(Tasks(events), 2, old, HighWater(), sides, follow)
    assert asked == [{"big"}, set()]
    assert part.contract == KEYED
    assert isinstance(part.output, Outcome)
    assert [row["big"] for batch in part.output.rows() for row in batch.to_pylist()] == ["B", "B"]

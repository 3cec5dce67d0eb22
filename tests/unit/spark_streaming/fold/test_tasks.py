"""A Spark task's result for its keys' events, and the events that it refuses."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from random import Random
from typing import Any

import pytest

from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.events.event import RawEvent
from spark_streaming.fold import fold_tasks as tasks
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
from spark_streaming.fold.keyed import fold
from tests.unit.debezium_events import event, raw
from tests.unit.model import KEYED, Source

TASK = FoldTask(KEYED, HighWater(), None)


def output(
    events: Sequence[RawEvent], task: FoldTask = TASK
) -> tuple[list[Any], list[Any], Report]:
    """The rows (without tag), the carried data except the report, and the report."""
    rows: list[Any] = []
    carried: list[Any] = []
    report = Report()
    for batch in task.run(iter(events)):
        for row in batch.to_pylist():
            tag, what = row.pop(TAG), row.pop(CARRIED)
            if tag == ROW:
                rows.append(row)
            elif tag == REPORT:
                report = pickle.loads(what)
            else:
                assert tag == REJECT
                carried.append(pickle.loads(what))
    return rows, carried, report


def film(key: int, op: str = "c", **other: Any) -> RawEvent:
    row = {"id": key, "note": "a", "big": "B"}
    given: dict[str, Any] = {"lsn": 100 + key, "before" if op == "d" else "after": row, **other}
    return event(op, key={"id": key}, **given)


def test_tasks_together_fold_what_the_driver_folds_alone(seed: int) -> None:
    random = Random(seed)
    source = Source(random, KEYED, 2)
    source.last_commit_lsn = 999
    for _ in range(40):
        source.step()
        source.send()
    events = [
        one for one in source.finish() if not one.headers and b'"op": "t"' not in (one.value or b"")
    ]
    wanted = decode(events, KEYED, HighWater())
    alone = fold(wanted.changes, KEYED, lambda keys: {}, lambda keys: set())
    found = [output([one for one in events if one.key == key]) for key in {e.key for e in events}]
    names = alone.rows.column_names
    rows = Counter(tuple(row[name] for name in names) for rows, _, _ in found for row in rows)
    whole = reduce(Report.merge, (report for _, _, report in found))
    assert not whole.depends_on_other_keys
    assert rows == Counter(tuple(row.values()) for row in alone.rows.to_pylist())
    assert whole.high_water == wanted.high_water
    assert whole.events == len(events)
    assert whole.rows == len(alone.rows)


@pytest.mark.parametrize(
    "odd",
    [
        event("t", lsn=200),
        film(1, commit=None, lsn=200),
        film(1, order=None, lsn=200),
        film(1, lsn=200)._replace(key=None),
        film(1, lsn=200)._replace(key=b'{"other":1}'),
    ],
    ids=["truncate", "no commit", "no order", "no key", "another key"],
)
def test_event_that_hangs_on_others_is_not_folded_by_its_key(odd: RawEvent) -> None:
    rows, _, report = output([odd, film(2, lsn=300)])
    assert report.depends_on_other_keys
    assert rows == []


def test_key_change_is_reported_with_both_keys() -> None:
    rows, _, report = output([film(1), film(2, headers={"oldkey": {"id": 3}})])
    assert report.key_changes == {(b'{"id": 2}', b'{"id": 3}')}
    assert rows == []


def test_reject_comes_out_whole_with_its_reason() -> None:
    bad = raw(b"no json", key=b'{"id": 1}')
    rows, [reject], report = output([bad, film(2)])
    assert (reject.event, reject.rule) == (bad, "not-json")
    assert (len(rows), report.rejected, report.rows) == (1, 1, 1)
    assert report.bounds == {"id": (2, 2)}


def test_task_that_is_given_too_much_folds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASK_BYTES_MAX", 500)
    events = [film(key) for key in range(5)]
    rows, _, report = output(events)
    assert (rows, report.too_large, report.events) == ([], True, 5)
    assert report.size == sum(len(e.value or b"") + len(e.key or b"") for e in events)


def test_positions_of_a_part_of_any_size_are_read_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = [film(key) for key in range(9)]
    _, _, whole = output(events)
    monkeypatch.setattr(tasks, "TASK_EVENTS_MAX", 2)
    rows, _, report = output([*events, *events[:3]], FoldTask(KEYED, HighWater(), None, fold=False))
    assert rows == []
    assert (report.events, report.skipped) == (12, 3)
    assert report.high_water == whole.high_water


def test_events_are_handed_on_as_they_are() -> None:
    events = [film(1), film(2, headers={"oldkey": {"id": 3}})]
    found = [row for batch in TASK.forward(iter(events)) for row in batch.to_pylist()]
    assert [pickle.loads(row[CARRIED]) for row in found if row[TAG] == EVENT] == events

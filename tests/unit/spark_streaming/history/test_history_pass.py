"""A history follows bronze into a real Delta table; whatever is killed, nothing is lost or repeated."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from deltalake.exceptions import CommitFailedError

from app.rebuild.moment import Moment
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import Lsn
from spark_streaming.history import history_pass
from spark_streaming.history.history_table import HistoryTable
from tests.unit.app.rebuild.test_moment import WHEN, by_partition, remembered
from tests.unit.app.rebuild.test_moment_build import NO_SOURCE, built
from tests.unit.debezium_events import TOPIC, event
from tests.unit.model import KEYED
from tests.unit.spark_streaming.history.history_model import check_rows, valid_at
from tests.unit.spark_streaming.history.history_world import OPTIONS, HistoryWorld


class KilledError(Exception):
    """The process has ended here."""


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(history_pass, "MARGIN_MS", 0)
    yield


@pytest.mark.parametrize(("mode", "partitions"), [("each", 1), ("last", 3)])
def test_a_history_killed_at_commits_has_what_a_rebuild_until_each_lsn_has(
    mode: str, partitions: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    source = remembered(seed, KEYED, partitions, resyncs=True)
    monkeypatch.setattr(history_pass, "SLICE_EVENTS_MAX", random.randint(10, 40))
    world = HistoryWorld(tmp_path, f'history = "{mode}"')
    whole = HistoryTable.write

    def cut(self: HistoryTable, *arguments: Any, **options: Any) -> None:
        drawn = random.random()
        if drawn < 0.2:
            raise KilledError
        whole(self, *arguments, **options)
        if drawn > 0.8:
            raise KilledError

    commits = [lsn for lsn, _ in source.states]
    half = len(commits) // 2
    for first, last in ((0, half), (half, len(commits))):
        for events in by_partition(source).values():
            share = len(events) // 2
            some = events[:share] if first == 0 else events[share:]
            if some:
                world.put(some)
        world.commit(commits[first:last])
        monkeypatch.setattr(HistoryTable, "write", cut)
        for _ in range(3):
            world.process().run()
        monkeypatch.setattr(HistoryTable, "write", whole)
        world.process().run()
    rows = world.rows()
    check_rows(rows, mode)
    for commit, content in source.states:
        assert valid_at(rows, KEYED, commit) == content, (seed, commit)
    commit, _ = random.choice(source.states)
    ContractStore(world.lake, NO_SOURCE).keep(KEYED)
    rebuilt, _ = built(world.lake, random, source, Moment(Lsn(commit), Lsn(commit), WHEN))
    names = [column.name for column in KEYED.columns]
    as_rebuilt = Counter(tuple(row[name] for name in names) for row in rebuilt)
    assert valid_at(rows, KEYED, commit) == as_rebuilt, (seed, commit)


def film(op: str, lsn: int, note: str | None = None, **more: Any) -> Any:
    """A change of film 1, which the next ten bytes of the log commit; its offset is a tenth of its LSN."""
    row = {"id": 1, "note": note, "big": "b"}
    more.setdefault("offset", lsn // 10 - 1)
    after = None if op == "d" else row
    return event(op, lsn=lsn, key={"id": 1}, after=after, commit=lsn - 5, **more)


THREE = [film("c", 10, "one"), film("u", 20, "two"), film("u", 30, "three")]
COMMITS = (15, 25, 35)


def test_a_history_that_is_asked_for_later_is_filled_from_the_first_event(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'description = "none yet"')
    world.put(THREE)
    world.commit(COMMITS)
    assert world.process().run() == 0
    assert not world.lake.exists("history/films")
    world.say('history = "each"')
    world.process().run()
    assert world.versions("note", "_valid_from_lsn", "_valid_to_lsn") == [
        ("one", 15, 25),
        ("two", 25, 35),
        ("three", 35, None),
    ]


def test_an_event_waits_until_bronze_has_its_commit(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put(THREE)
    world.commit(COMMITS[:2])
    follower = world.process()
    follower.run()
    assert world.versions("note") == [("one",), ("two",)]
    world.commit(COMMITS[2:])
    follower.run()
    assert world.versions("note") == [("one",), ("two",), ("three",)]


def test_a_history_never_passes_silver(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put(THREE)
    world.commit(COMMITS)
    world.ends = {0: 2}  # silver has merged two of the events
    world.process().run()
    assert world.versions("note") == [("one",), ("two",)]


def test_a_slice_that_is_sent_again_changes_nothing(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put(THREE)
    world.commit(COMMITS)
    world.process().run()
    before = world.versions("note", "_valid_from_lsn", "_valid_to_lsn")
    world.put([one._replace(offset=one.offset + 3) for one in THREE])
    assert world.process().run() == 1
    assert world.versions("note", "_valid_from_lsn", "_valid_to_lsn") == before
    assert world.process().run() == 0


def test_of_two_processes_with_the_same_slice_delta_refuses_the_second(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put(THREE[:1])
    world.commit(COMMITS)
    world.process().run()
    world.put(THREE[1:])
    one, other = opened(world), opened(world)
    images = KEYED.data_schema.empty_table()
    one.write(images, [], [], [], one.progress, each=True)
    with pytest.raises(CommitFailedError):
        other.write(images, [], [], [], one.progress, each=True)


def opened(world: HistoryWorld) -> HistoryTable:
    """The history's table as another process sees it."""
    table = HistoryTable(world.lake, "films", TOPIC, OPTIONS)
    number = table.handle().transaction_version("headwater:history:definition")
    assert number is not None
    table.open(KEYED, number, [0])
    return table


def test_a_gap_in_bronze_stops_a_history_and_the_log_names_the_offsets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put([THREE[0], film("u", 90, "late", offset=8)])
    world.commit([*COMMITS, 95])
    with caplog.at_level(logging.WARNING):
        world.process().run()
    assert "bronze lacks the offsets 1 to 7 of partition 0 of hw.public.films" in caplog.text


def test_the_end_of_a_history_is_a_position_of_the_log(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put(THREE)
    world.commit(COMMITS)
    world.process().run()
    table = opened(world)
    assert table.progress.offsets == {0: 3}
    assert table.progress.reached == {0: 35}
    assert table.progress.marks.get(TOPIC, 0).lsn == Lsn(30)


def test_a_history_tells_for_how_long_it_has_not_been_where_silver_is(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    now = [0.0]
    world.put(THREE[:2])
    world.commit(COMMITS[:2])
    process = world.process()
    process.clock = lambda: now[0]
    assert process.waiting_s() == {}, "no history is known before the first pass"
    process.run()
    now[0] = 40.0
    process.run()
    assert process.waiting_s() == {"films": 0.0}
    world.put(THREE[2:])  # bronze lacks the end of its transaction
    process.ends[TOPIC] = dict(world.ends)
    for now[0] in (100.0, 1000.0):
        process.run()
    assert process.waiting_s() == {"films": 960.0}
    world.commit(COMMITS[2:])
    process.run()
    assert process.waiting_s() == {"films": 0.0}


def test_a_history_of_a_restored_lake_goes_on_with_the_new_topics_first_event(
    tmp_path: Path,
) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    world.put(THREE)
    world.commit(COMMITS)
    world.process().run()
    world.restore("hw2")
    world.put([film("u", 50, "after the gap", offset=0), film("d", 60, offset=1)])
    world.commit([55, 65])
    for _ in range(2):
        world.process().run()
    assert world.versions("note", "_valid_from_lsn", "_valid_to_lsn") == [
        ("one", 15, 25),
        ("two", 25, 35),
        ("three", 35, 55),
        ("after the gap", 55, 65),
    ]

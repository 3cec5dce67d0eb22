"""`ops/incidents` as a real Delta table in a folder; several logs write it like several processes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from deltalake import DeltaTable

from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.incident_rows import CLOSED, OPEN, Incident, kept_ids, newest
from spark_streaming.ops.incident_table import COMPACT_COMMITS, PATH, WAITING_MAX, IncidentLog
from tests.support.disk_lake import DiskLake
from tests.support.waiting import until

START = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
WRITTEN_S = 30.0


class Clock:
    """Advances by a minute at each reading."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


@pytest.fixture
def another(lake: DiskLake) -> Callable[[], IncidentLog]:
    """Makes a log like that of another or a restarted process."""
    return lambda: IncidentLog(lake, Clock())


def _stored(lake: DiskLake) -> dict[str, Incident]:
    table = DeltaTable(str(lake.folder / PATH)).to_pyarrow_table()
    return newest(table.to_pylist())


def test_an_incident_outlives_its_process_with_all_that_was_said(
    lake: DiskLake, another: Callable[[], IncidentLog]
) -> None:
    log = another()
    made = log.open_incident(
        "slot_lost", "headwater at 0/1000", cause="WAL removed", tables=["a.b"], lsn_from=Lsn(4096)
    )
    log.extend_incident(made, lsn_to=Lsn(8192), tables=["a.b", "a.c"])
    assert log.flush(WRITTEN_S)
    later = another()
    later.refresh()
    [found] = later.incidents(state=OPEN)
    assert (found.id, found.tables, found.lsn_from, found.lsn_to) == (
        made,
        ("a.b", "a.c"),
        4096,
        8192,
    )
    later.close_incident(made, "every table was snapshotted again")
    assert later.flush(WRITTEN_S)
    [closed] = _stored(lake).values()
    assert (closed.state, closed.how_closed, closed.cause, closed.opened_at) == (
        CLOSED,
        "every table was snapshotted again",
        "WAL removed",
        found.opened_at,
    )


def test_what_is_found_again_is_not_opened_again_whoever_finds_it(
    lake: DiskLake, another: Callable[[], IncidentLog]
) -> None:
    logs = [another() for _ in range(4)]
    ids = {log.open_incident("counts_short", "tx 7", cause="short") for log in logs}
    assert all(log.flush(WRITTEN_S) for log in logs) and len(ids) == 1
    logs[0].close_incident(ids.pop(), "repaired")
    assert logs[0].flush(WRITTEN_S)
    again = another()
    again.open_incident("counts_short", "tx 7", cause="short, seen after a restart")
    assert again.flush(WRITTEN_S)
    assert [one.state for one in _stored(lake).values()] == [CLOSED]


def test_an_outage_that_recurs_has_an_incident_each_time(
    lake: DiskLake, another: Callable[[], IncidentLog]
) -> None:
    log = another()
    for _ in range(3):
        made = log.open_incident("service", "trino", cause="down", recurs=True)
        assert log.open_incident("service", "trino", cause="down", recurs=True) == made
        log.close_incident(made, "works again")
    assert log.flush(WRITTEN_S)
    assert [one.state for one in _stored(lake).values()] == [CLOSED] * 3


def test_an_outage_that_another_process_has_opened_is_closed_under_its_name(
    lake: DiskLake, another: Callable[[], IncidentLog]
) -> None:
    first = another()
    made = first.open_incident("service", "trino", cause="down", recurs=True)
    assert first.flush(WRITTEN_S)
    second = IncidentLog(lake, lambda: START + timedelta(hours=1))
    second.close_incident(
        second.open_incident("service", "trino", cause="still down", recurs=True), "works again"
    )
    assert second.flush(WRITTEN_S)
    found = _stored(lake)
    assert list(found) == [made] and found[made].how_closed == "works again"


def test_a_store_that_is_away_stops_nobody_and_loses_nothing_that_fits(
    lake: DiskLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_streaming.ops.incident_table.BACKOFF_S", 0.01)
    monkeypatch.setattr("spark_streaming.ops.incident_table.BACKOFF_MAX_S", 0.05)
    lake.away = True
    log = IncidentLog(lake, Clock())
    names = [f"tx {number}" for number in range(WAITING_MAX + 20)]
    for name in names:
        log.open_incident("counts_short", name, cause="short")
    assert not log.flush(0.1)
    assert len(log.incidents()) == len(names)
    lake.away = False
    assert log.flush(WRITTEN_S)
    assert {one.name for one in _stored(lake).values()} == set(names[20:])


def test_appends_of_many_writers_survive_each_other_and_the_joining_of_files(
    lake: DiskLake, another: Callable[[], IncidentLog], seed: int
) -> None:
    logs = [another() for _ in range(4)]
    rounds = COMPACT_COMMITS // 2

    def write(number: int) -> None:
        chance = random.Random(seed + number)
        for one in range(rounds):
            made = logs[number].open_incident("gap", f"{number} {one}", cause="?")
            if chance.random() < 0.5:
                logs[number].close_incident(made, "done")
            assert logs[number].flush(WRITTEN_S)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {one.id: one.state for log in logs for one in log.incidents()}
    assert len(expected) == 4 * rounds
    assert {id: one.state for id, one in _stored(lake).items()} == {
        one.id: one.state
        for n, log in enumerate(logs)
        for one in log.incidents()
        if one.name.startswith(f"{n} ")
    }
    until(
        lambda: len(DeltaTable(str(lake.folder / PATH)).file_uris()),
        lambda files: files < COMPACT_COMMITS * 2,
        within_s=WRITTEN_S,
        what="files are joined",
    )


def test_open_incidents_stay_and_closed_ones_go_with_age_and_number() -> None:
    def one(number: int, state: str, days: int) -> Incident:
        at = START - timedelta(days=days)
        return Incident(str(number), at, state, "gap", "x", (), None, None, "", None, at)

    found = [one(1, OPEN, 900), one(2, CLOSED, 500), one(3, CLOSED, 2), one(4, CLOSED, 1)]
    since = START - timedelta(days=400)
    assert kept_ids(found, since=since, closed_max=10) == {"1", "3", "4"}
    assert kept_ids(found, since=since, closed_max=1) == {"1", "4"}

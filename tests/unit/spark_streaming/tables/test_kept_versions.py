"""Old versions: which stay as they age, what they may take, and what is noted of them."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from spark_streaming.batch.upkeep.table_upkeep import drop_old
from spark_streaming.contract.contract_files import TimeTravel
from spark_streaming.tables.kept_versions import NOTE, Version, read_note, thinned
from spark_streaming.tables.silver_table import TableOptions
from tests.support.disk_lake import DiskLake

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=timezone.utc)
WINDOW = timedelta(minutes=15)
PATH = "silver/orders"


def every(step: timedelta, back: timedelta) -> list[Version]:
    """Versions at regular times, the oldest `back` before NOW."""
    count = back // step
    return [Version(n, NOW - back + n * step) for n in range(count + 1)]


def test_of_a_year_a_version_a_minute_leaves_one_an_hour_and_one_a_day() -> None:
    kept = thinned(every(timedelta(minutes=5), timedelta(days=30)), 7, WINDOW, NOW)
    times = [f"{each.at:%d %H:%M}" for each in kept]
    assert times[:3] == ["10 12:10", "10 11:55", "10 10:55"]
    assert times[23:] == [
        "09 13:55",
        "09 12:55",
        "09 12:25",
        *(f"0{d} 23:55" for d in (8, 7, 6, 5, 4, 3)),
    ]


def test_thinning_again_removes_nothing_that_it_kept_before() -> None:
    kept = thinned(every(timedelta(minutes=5), timedelta(days=30)), 7, WINDOW, NOW)
    assert thinned(kept, 7, WINDOW, NOW) == kept


def test_the_last_version_before_a_quiet_time_is_that_of_its_day() -> None:
    quiet = [Version(1, NOW - timedelta(days=3, hours=4)), Version(2, NOW - timedelta(days=3))]
    assert thinned(quiet, 7, WINDOW, NOW) == [quiet[1]]


class Aged:
    """A table of one row that each commit replaces, whose commits are as old as the test says."""

    def __init__(self, folder: Path) -> None:
        self.lake = DiskLake(folder)
        self.url = self.lake.url(PATH)
        self.ages: dict[int, timedelta] = {}

    def commit(self, age: timedelta, rows: int = 1) -> int:
        """Commit and checkpoint; a value names the version that wrote it."""
        version = len(self.ages)
        data = pa.table(
            {"version": [version] * rows, "fill": [os.urandom(64) for _ in range(rows)]}
        )
        write_deltalake(
            self.url, data, mode="overwrite", configuration=TableOptions(0).properties()
        )
        DeltaTable(self.url).create_checkpoint()
        self.ages[version] = age
        return version

    def vacuum(self, keep: TimeTravel) -> int:
        for version, age in self.ages.items():
            entry = Path(self.url, "_delta_log", f"{version:020}.json")
            if entry.exists():
                at = (datetime.now(timezone.utc) - age).timestamp()
                os.utime(entry, (at, at))
        return drop_old(self.lake, PATH, threading.Lock(), lambda: DeltaTable(self.url), keep)

    def read(self, version: int) -> set[int]:
        return set(DeltaTable(self.url, version=version).to_pyarrow_table()["version"].to_pylist())

    def is_gone(self, version: int) -> bool:
        with pytest.raises(DeltaError):
            self.read(version)
        return True


@pytest.fixture
def aged(tmp_path: Path) -> Aged:
    return Aged(tmp_path)


def test_a_kept_version_can_be_read_and_those_around_it_are_gone(aged: Aged) -> None:
    for days in (5, 4, 4, 3):
        aged.commit(timedelta(days=days))
    aged.commit(timedelta(0))
    before = {name.name for name in Path(aged.url).glob("*.parquet")}
    assert aged.vacuum(TimeTravel(days=7)) == 1
    assert [aged.read(version) for version in (0, 2, 3, 4)] == [{0}, {2}, {3}, {4}]
    assert aged.is_gone(1)
    assert len(before) - len(list(Path(aged.url).glob("*.parquet"))) == 1
    # A second run finds nothing to do, and days that are over go.
    assert aged.vacuum(TimeTravel(days=7)) == 0
    aged.ages[0] = timedelta(days=8)
    assert aged.vacuum(TimeTravel(days=7)) == 1
    assert aged.is_gone(0)


def test_without_days_only_the_minutes_stay(aged: Aged) -> None:
    for days in (3, 2, 0):
        aged.commit(timedelta(days=days))
    assert aged.vacuum(TimeTravel(days=0)) == 2
    assert len(list(Path(aged.url).glob("*.parquet"))) == 1


def test_beyond_the_bytes_the_oldest_go_first_and_this_is_noted(aged: Aged) -> None:
    for days in (4, 3, 2):
        aged.commit(timedelta(days=days), rows=10_000)  # 640 kB each
    aged.commit(timedelta(0))
    aged.vacuum(TimeTravel(days=7, max_mb=1))
    note = read_note(aged.lake, PATH)
    assert note is not None
    assert [number for number, _ in note.versions] == [2, 3]  # 3 is the newest
    assert aged.is_gone(1) and aged.read(2) == {2}
    assert note.limited_at is not None and note.limit_bytes == 1 << 20
    # The note says what lies there.
    files = {f.name: f.stat().st_size for f in Path(aged.url).glob("*.parquet")}
    assert note.live_bytes + note.old_bytes == sum(files.values())
    # That something was left out stays noted while the days would have kept it.
    aged.vacuum(TimeTravel(days=7, max_mb=1))
    again = read_note(aged.lake, PATH)
    assert again is not None and again.limited_at == note.limited_at


def test_the_note_outlives_the_vacuum_and_no_reader_takes_it_for_data(aged: Aged) -> None:
    aged.commit(timedelta(days=1))
    aged.commit(timedelta(0))
    for _ in range(2):
        aged.vacuum(TimeTravel())
    assert Path(aged.url, NOTE).exists()
    assert aged.read(1) == {1}

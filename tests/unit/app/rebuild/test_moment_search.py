"""The last commit of a moment is found in bronze's END records, in any number of blocks."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.fs as pa_fs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import HeadwaterError
from app.rebuild.moment import Wanted
from app.rebuild.moment_search import NotReachedError, await_moment, find_moment
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze
from tests.support.bronze import write

WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
STEP = 1_000  # bytes and milliseconds from commit to commit
COMMITS = 40
OFFSETS = 1_700  # from END to END: 40 of them are in seven blocks


@pytest.fixture(scope="module")
def bronze(tmp_path_factory: pytest.TempPathFactory) -> Bronze:
    """Commits at 1000, 2000, … 40000, a second apart, each with its BEGIN."""
    folder = tmp_path_factory.mktemp("bronze")
    files = pa_fs.SubTreeFileSystem(str(folder), pa_fs.LocalFileSystem())
    for number in range(1, COMMITS + 1):
        write(files, [record("BEGIN", number, -400, -1), record("END", number, 0, 0)], 9)
    return Bronze(files)


def record(status: str, number: int, lsn_step: int, offset_step: int) -> RawEvent:
    value = {
        "status": status,
        "id": f"{700 + number}:{number * STEP + lsn_step}",
        "ts_ms": int(WHEN.timestamp() * 1000) + number * STEP,
    }
    offset = number * OFFSETS + offset_step
    return RawEvent("hw.transaction", 0, offset, 0, None, json.dumps(value).encode(), [])


@given(lsn=st.integers(STEP, COMMITS * STEP - 1))
def test_moment_at_an_lsn_ends_with_the_last_commit_up_to_it(bronze: Bronze, lsn: int) -> None:
    moment = find_moment(bronze, "hw", Wanted(Lsn(lsn), None))
    assert (moment.commit, moment.lsn) == (lsn // STEP * STEP, lsn)


@given(ms=st.integers(STEP, COMMITS * STEP - 1))
def test_moment_at_a_time_ends_before_the_first_later_commit(bronze: Bronze, ms: int) -> None:
    moment = find_moment(bronze, "hw", Wanted(None, WHEN + timedelta(milliseconds=ms)))
    assert moment.commit == moment.lsn == ms // STEP * STEP
    assert moment.committed_at == WHEN + timedelta(milliseconds=moment.commit)


@pytest.mark.parametrize("wanted", [Wanted(Lsn(999), None), Wanted(None, WHEN)])
def test_moment_before_the_first_commit_is_refused(bronze: Bronze, wanted: Wanted) -> None:
    with pytest.raises(HeadwaterError, match="before the beginning of bronze") as refused:
        find_moment(bronze, "hw", wanted)
    assert "0/3E8 (2026-01-01 00:00:01 UTC)" in (refused.value.detail or "")


@pytest.mark.parametrize(
    "wanted", [Wanted(Lsn(COMMITS * STEP), None), Wanted(None, WHEN + timedelta(days=1))]
)
def test_moment_that_bronze_does_not_reach_is_refused(bronze: Bronze, wanted: Wanted) -> None:
    with pytest.raises(HeadwaterError, match="bronze does not reach"):
        find_moment(bronze, "hw", wanted)


def test_bronze_without_a_commit_says_so(tmp_path: Path) -> None:
    empty = Bronze(pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem()))
    with pytest.raises(HeadwaterError, match="no commit of the source yet"):
        find_moment(empty, "hw", Wanted(Lsn(1), None))


def test_a_moment_that_bronze_reaches_a_little_later_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())
    write(files, [record("END", 1, 0, 0)], 9)
    told: list[str] = []
    monkeypatch.setattr(
        "app.rebuild.moment_search.time.sleep",
        lambda _: write(files, [record("END", 1 + len(told), 0, 0)], 9),
    )
    moment = await_moment(Bronze(files), "hw", Wanted(Lsn(2 * STEP), None), told.append)
    assert moment.commit == 2 * STEP and len(told) == 2


def test_a_moment_of_the_future_is_refused_at_once(bronze: Bronze) -> None:
    told: list[str] = []
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    with pytest.raises(NotReachedError):
        await_moment(bronze, "hw", Wanted(None, tomorrow), told.append)
    assert told == []

"""The commit that follows a position is found in bronze's END records, wherever the last question was."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pyarrow.fs as pa_fs
import pytest

from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.commit_log import CommitLog
from tests.support.bronze import write

TOPIC = "hw.transaction"


def end(number: int, lsn: int) -> RawEvent:
    value = json.dumps({"status": "END", "id": f"7:{lsn}", "ts_ms": lsn}).encode()
    return RawEvent(TOPIC, 0, number * 1_700, lsn, None, value, [])


@pytest.fixture
def files(tmp_path: Path) -> pa_fs.FileSystem:
    return pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())


@pytest.mark.parametrize("kept_max", [2, 5, 1_000])
def test_any_position_has_the_commit_that_follows_it(
    files: pa_fs.FileSystem, kept_max: int
) -> None:
    commits = [number * 100 for number in range(1, 31)]
    write(files, [end(number, lsn) for number, lsn in enumerate(commits)], 4)
    log, random = CommitLog(Bronze(files), TOPIC, kept_max), Random(5)
    for lsn in [0, *range(50, 3_000, 170), *(random.randint(0, 2_999) for _ in range(60))]:
        assert log.after(Lsn(lsn)) == lsn // 100 * 100 + 100
    assert log.after(Lsn(3_000)) is None


def test_a_commit_that_comes_later_is_found_after_a_refresh(files: pa_fs.FileSystem) -> None:
    log = CommitLog(Bronze(files), TOPIC)
    assert log.after(Lsn(5)) is None
    for number, lsn in enumerate((10, 20, 20, 15, 30)):  # a restarted connector repeats some
        write(files, [end(number, lsn)], 1)
        log.refresh()
        assert log.after(Lsn(max(10, lsn) - 1)) in (lsn, 20)
    assert [log.after(Lsn(at)) for at in (0, 10, 20, 30)] == [10, 20, 30, None]

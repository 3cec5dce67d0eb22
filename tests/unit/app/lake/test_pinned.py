"""The version of silver that belongs to a ledger entry."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from app.lake.lakehouse import Lakehouse, LedgerEntry
from spark_streaming.events.envelope import HighWater
from spark_streaming.reading.offsets import version_of
from tests.support.disk_lake import DiskLake

APP = "headwater:q1:films"


class SilverInFolder(Lakehouse):
    """A lakehouse whose silver is in a folder."""

    def __init__(self, folder: Path) -> None:
        self._lake = DiskLake(folder)


@pytest.fixture
def lake(tmp_path: Path) -> SilverInFolder:
    commit(tmp_path, batch=4)
    return SilverInFolder(tmp_path)


def commit(root: Path, batch: int | None = None) -> None:
    """Make one commit to `films`: the streaming job's for `batch`, or another writer's."""
    transactions = [] if batch is None else [Transaction(APP, version_of(batch))]
    write_deltalake(
        root / "silver" / "films",
        pa.table({"id": [1]}),
        mode="append",
        commit_properties=CommitProperties(app_transactions=transactions),
    )


def entry(version: int | None, state: str = "running") -> LedgerEntry:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return LedgerEntry("films", 4, version, {}, None, now, HighWater(), state=state, query_id="q1")


def pinned(lake: SilverInFolder, one: LedgerEntry) -> int:
    table = lake.pinned(one)
    assert table is not None
    return int(table.version())


def test_what_somebody_else_committed_since_is_part_of_silver(
    lake: SilverInFolder, tmp_path: Path
) -> None:
    commit(tmp_path)
    assert pinned(lake, entry(0)) == 1


def test_a_merge_that_the_ledger_does_not_tell_of_yet_is_not(
    lake: SilverInFolder, tmp_path: Path
) -> None:
    commit(tmp_path, batch=5)
    assert pinned(lake, entry(0)) == 0


def test_an_entry_without_a_version_stands_for_what_is_there(lake: SilverInFolder) -> None:
    assert pinned(lake, entry(None)) == 0


def test_a_table_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert SilverInFolder(tmp_path / "empty").pinned(entry(None)) is None

"""Small tables of the stack's own: made when missing, compacted, replaced."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from spark_streaming.storage import small_table
from spark_streaming.storage.small_table import SmallTable
from tests.support.disk_lake import DiskLake

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
PATH = "ops/rounds"
EARLIER = pa.schema([("round", pa.int64()), ("at", pa.timestamp("us", "UTC"))])
SCHEMA = pa.schema([*EARLIER, ("note", pa.string())])


def rows(*numbers: int, schema: pa.Schema = SCHEMA) -> pa.Table:
    found = [{"round": number, "at": NOW + timedelta(days=number)} for number in numbers]
    return pa.Table.from_pylist(found, schema=schema)


def kept(folder: Path) -> list[int]:
    return sorted(DeltaTable(folder / PATH).to_pyarrow_table()["round"].to_pylist())


def test_a_table_that_is_missing_is_read_as_empty_and_made_by_the_first_append(
    tmp_path: Path,
) -> None:
    table = SmallTable(DiskLake(tmp_path), PATH, SCHEMA)
    assert table.column("round") == []
    table.append(rows(1), time_column="at", retention=timedelta(days=9_999))
    assert table.column("round") == [1]


def test_old_rows_and_many_small_files_go(tmp_path: Path) -> None:
    table = SmallTable(DiskLake(tmp_path), PATH, SCHEMA)
    for number in range(3):
        table.append(rows(number), time_column="at", retention=timedelta(days=9_999))
    table.compact("at", NOW + timedelta(days=1))
    assert kept(tmp_path) == [1, 2]
    assert len(DeltaTable(tmp_path / PATH).file_uris()) == 1


def test_after_so_many_appends_the_rows_beyond_the_retention_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_table, "COMPACT_COMMITS", 4)
    table = SmallTable(DiskLake(tmp_path), PATH, SCHEMA)
    old = (datetime.now(timezone.utc) - NOW).days
    for number in (old - 20, old - 5, old - 1):
        assert len(table.column("round")) < 3, "nothing goes before its time"
        table.append(rows(number), time_column="at", retention=timedelta(days=10))
    assert kept(tmp_path) == [old - 5, old - 1]


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    earlier = rows(1, schema=EARLIER)
    SmallTable(lake, PATH, EARLIER).append(
        earlier, time_column="at", retention=timedelta(days=9_999)
    )
    SmallTable(lake, PATH, SCHEMA).append(
        rows(2), time_column="at", retention=timedelta(days=9_999)
    )
    assert SmallTable(lake, PATH, SCHEMA).column("note") == [None, None]
    assert kept(tmp_path) == [1, 2]


def test_a_replacement_leaves_its_rows_only_and_old_files_go_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_table, "VACUUM_COMMITS", 2)
    table = SmallTable(DiskLake(tmp_path), PATH, SCHEMA)
    for number in range(4):
        table.replace(rows(number))
        assert kept(tmp_path) == [number]
    assert list((tmp_path / PATH / "_delta_log").glob("*.checkpoint.parquet"))

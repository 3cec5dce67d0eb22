"""A reader can follow a Delta table, whatever its writer does to its files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from app.lake.table_follower import Follower
from tests.support.disk_lake import DiskLake


def test_rows_of_rewritten_and_appended_files_are_read_together(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    uri = lake.url("ops/rows")

    def append(number: int) -> None:
        write_deltalake(uri, pa.table({"id": [number], "name": [f"row {number}"]}), mode="append")

    append(1)
    append(2)
    follower = Follower(lake, "ops/rows", ["id", "name"], rereads=True)
    follower.poll()
    # Such a commit writes text as string views; an append writes strings.
    DeltaTable(uri).update(updates={"name": "'row one'"}, predicate="id = 1")
    append(3)
    rows, whole = follower.poll()
    assert whole and rows is not None
    assert sorted(rows["name"].to_pylist()) == ["row 2", "row 3", "row one"]
    assert rows.schema.field("name").type == pa.string()

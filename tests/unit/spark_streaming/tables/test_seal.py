"""A seal makes every commit that was begun before it fail."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from spark_streaming.contract.names import stream_mark
from spark_streaming.storage.driver_lease import Superseded
from spark_streaming.tables.seal import EPOCH, seal, seal_tables
from tests.support.disk_lake import DiskLake

COLUMNS = pa.schema([("k", pa.int64()), ("v", pa.int64())])
ROWS = pa.table({"k": [1, 7], "v": [9, 9]}, schema=COLUMNS)


def merge(table: DeltaTable) -> None:
    (
        table.merge(ROWS, "s.k = t.k", source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )


def named_append(table: DeltaTable) -> None:
    named = CommitProperties(app_transactions=[Transaction("batch", 1)])
    write_deltalake(table, ROWS, mode="append", commit_properties=named)


COMMITS: dict[str, Callable[[DeltaTable], object]] = {
    "merge": merge,
    "append": lambda table: write_deltalake(table, ROWS, mode="append"),
    "named append": named_append,
    "overwrite": lambda table: write_deltalake(table, ROWS, mode="overwrite"),
    "new columns and rows": lambda table: write_deltalake(
        table, ROWS, mode="overwrite", schema_mode="overwrite"
    ),
    "compact": lambda table: table.optimize.compact(),
    "delete": lambda table: table.delete("k = 0"),
    "update": lambda table: table.update(predicate="k = 0", updates={"v": "1"}),
    "add a column": lambda table: table.alter.add_columns(
        list(Schema.from_arrow(pa.schema([("x", pa.int64())])).fields)
    ),
    "another seal": lambda table: table.alter.set_table_properties(
        {EPOCH: "1"}, raise_if_not_exists=False
    ),
}


def made(lake: DiskLake, path: str, description: str | None = None) -> None:
    (lake.folder / path).mkdir(parents=True)
    DeltaTable.create(lake.url(path), schema=COLUMNS, description=description)
    for number in range(3):
        row = pa.table({"k": [number], "v": [number]}, schema=COLUMNS)
        write_deltalake(lake.url(path), row, mode="append")


@pytest.mark.parametrize("what", COMMITS)
def test_a_commit_to_what_was_read_before_the_seal_is_refused(lake: DiskLake, what: str) -> None:
    made(lake, "silver/orders")
    before = lake.table("silver/orders")
    seal_tables(lake, 2, [])
    with pytest.raises(CommitFailedError):
        COMMITS[what](before)
    COMMITS[what](lake.table("silver/orders"))


def test_tables_are_sealed_once_an_epoch_but_for_those_of_streams(lake: DiskLake) -> None:
    for path in ("silver/orders", "silver/ratings", "ops/ledger"):
        made(lake, path)
    made(lake, "silver/logs", stream_mark("logs"))
    (lake.folder / "silver" / "no_table").mkdir()
    assert seal_tables(lake, 2, ["ops/ledger", "ops/none"]) == 3
    versions = {p: lake.table(p).version() for p in ("silver/orders", "silver/logs", "ops/ledger")}
    assert versions == {"silver/orders": 4, "silver/logs": 3, "ops/ledger": 4}
    assert seal_tables(lake, 2, ["ops/ledger"]) == 3
    assert lake.table("silver/orders").version() == 4
    assert seal(lake, "silver/orders", 3)
    assert lake.table("silver/orders").version() == 5


def test_a_lake_with_a_fence_opens_no_table_for_a_driver_that_was_superseded(
    lake: DiskLake,
) -> None:
    def over() -> None:
        raise Superseded("another driver has taken over")

    made(lake, "silver/orders")
    lake._fence = over
    for path in ("silver/orders", "silver/none"):
        with pytest.raises(Superseded):
            lake.table(path)

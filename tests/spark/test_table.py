"""A silver table follows its source's columns and is maintained."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from spark_streaming.batch.upkeep.table_need import Steps
from spark_streaming.batch.upkeep.table_upkeep import drop_old, finish, maintain_table
from spark_streaming.contract.contract_files import TimeTravel
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.fold.keyed import Folded
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.log_checkpoint import write_checkpoint
from spark_streaming.tables import kept_versions
from spark_streaming.tables.engine_protocol import Commit, MergeEngine
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.joined_files import JOIN_FILES_MIN
from spark_streaming.tables.silver_table import SilverTable, TableEvolutionError, TableOptions
from tests.spark.conftest import MakeTable
from tests.spark.test_engines import content, film
from tests.support.folded import rows
from tests.unit.model import BAG, KEYED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_new_columns_hold_the_sources_default_in_older_rows(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(1, "a"))), Commit("t", 1))
    price = Column("price", "numeric(8,2)", "decimal", precision=8, scale=2, missing_value="9.50")
    wider = replace(
        KEYED, columns=(*KEYED.columns, price, Column("more", "text", "text")), version=2
    )
    assert table.adopt(wider) == ["price", "more"]
    assert table.adopt(wider) == []
    new = {**film(2, "b"), "price": Decimal("1.00"), "more": "m"}
    engine.merge(table, Folded(rows(wider, new)), Commit("t", 2))
    assert content(table) == Counter(
        [(1, "a", None, Decimal("9.50"), None), (2, "b", None, Decimal("1.00"), "m")]
    )
    table.forget()
    assert engine.merge(table, Folded(rows(wider, new)), Commit("t", 1)).skipped


def test_new_column_of_a_table_without_key_is_appended_by_name(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(BAG)
    wider = replace(BAG, columns=(*BAG.columns, Column("size", "int", "int32")), version=2)
    table.adopt(wider)
    engine.merge(
        table, Folded(rows(wider, {**film(1, "a"), "size": 3, "_op": "i"})), Commit("t", 1)
    )
    assert content(table) == Counter([(1, "a", None, 3)])


def test_wider_type_keeps_the_values(engine: MergeEngine, make_table: MakeTable) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(7, "a"))), Commit("t", 1))
    big = replace(KEYED.columns[0], pg_type="bigint", kind="int64")
    wider = replace(KEYED, columns=(big, *KEYED.columns[1:]), version=2)
    table.adopt(wider)
    engine.merge(table, Folded(rows(wider, film(2**40, "b"))), Commit("t", 2))
    assert content(table) == Counter([(7, "a", None), (2**40, "b", None)])


def test_a_table_that_gives_its_name_away_loses_its_rows_and_none_of_its_successors(
    make_table: MakeTable,
) -> None:
    # The catalog did not answer, so the swap was unknown when the newer row was merged.
    table = make_table(KEYED)
    both = rows(KEYED, {**film(1, "old"), "_lsn": 100}, {**film(2, "new"), "_lsn": 300})
    ArrowEngine().merge(table, Folded(both), Commit("t", 1))
    moved = tuple(replace(c, attnum=number) for number, c in enumerate(reversed(KEYED.columns), 1))
    other = replace(KEYED, columns=moved, oid=7, version=2, begins_at_lsn=Lsn(200))
    table.adopt(other, clear=True)
    assert [(row["id"], row["note"]) for row in table.handle().to_pyarrow_table().to_pylist()] == [
        (2, "new")
    ]


def test_type_that_cannot_hold_the_values_is_refused(make_table: MakeTable) -> None:
    table = make_table(KEYED)
    ArrowEngine().merge(table, Folded(rows(KEYED, film(7, "not a number"))), Commit("t", 1))
    note = replace(KEYED.columns[1], pg_type="integer", kind="int32")
    with pytest.raises(TableEvolutionError, match="note"):
        table.adopt(replace(KEYED, columns=(KEYED.columns[0], note, KEYED.columns[2]), version=2))
    assert content(table) == Counter([(7, "not a number", None)])


def test_a_column_that_becomes_text_holds_what_postgres_prints(make_table: MakeTable) -> None:
    zone = dt.timezone.utc
    held = {
        "n": (Column("n", "numeric(10,2)", "decimal", precision=10, scale=2), Decimal("1.50"), "1.50"),
        "d": (Column("d", "date", "date"), dt.date(44, 3, 15), "0044-03-15"),
        "t": (
            Column("t", "timestamp without time zone", "timestamp", base_type="timestamp"),
            dt.datetime(2026, 1, 2, 3, 4, 5, 120000),
            "2026-01-02 03:04:05.12",
        ),
        "z": (
            Column("z", "timestamp with time zone", "timestamptz", base_type="timestamptz"),
            dt.datetime(2026, 1, 2, tzinfo=zone),
            "2026-01-02 00:00:00+00",
        ),
        "a": (Column("a", "text[]", "array", element="text"), ["x y", None, "NULL"], '{"x y",NULL,"NULL"}'),
    }  # fmt: skip
    typed = replace(KEYED, columns=(*KEYED.columns, *(column for column, _, _ in held.values())))
    table = make_table(typed)
    values = {name: value for name, (_, value, _) in held.items()}
    empty = dict.fromkeys(held)
    ArrowEngine().merge(
        table, Folded(rows(typed, {**film(1), **values}, {**film(2), **empty})), Commit("t", 1)
    )
    table.adopt(replace(typed.with_texts(held.keys()), version=2))
    found = table.handle().to_pyarrow_table(columns=["id", *held]).sort_by("id").to_pylist()
    printed = {name: text for name, (_, _, text) in held.items()}
    assert found == [{"id": 1, **printed}, {"id": 2, **empty}]


def test_many_small_files_are_joined_and_no_row_is_lost(make_table: MakeTable) -> None:
    table: SilverTable = make_table(KEYED)
    count = JOIN_FILES_MIN + 8
    for number in range(count):
        ArrowEngine().merge(table, Folded(rows(KEYED, film(number))), Commit("t", number))
    assert len(table.handle().file_uris()) == count
    finish(maintain_table(table, Steps(join=True, checkpoint=True, clean=True)))
    assert len(table.handle().file_uris()) == 1
    ArrowEngine().merge(table, Folded(rows(KEYED, film(0, "again"))), Commit("t", count))
    expected = [(0, "again", None), *((n, None, None) for n in range(1, count))]
    assert content(table) == Counter(expected)
    table.forget()
    assert table.has_commit(Commit("t", count))


def test_a_checkpoint_from_a_copy_of_the_log_is_the_one_that_delta_rs_makes_of_it(
    make_table: MakeTable, lake: Lake
) -> None:
    table: SilverTable = make_table(KEYED)
    objects, last = lake.objects(f"{table.path}/_delta_log"), "_last_checkpoint"

    def made() -> tuple[Any, Counter[str]]:
        pointer = json.loads(bytes(obstore.get(objects, last).bytes()))
        content = obstore.get(objects, f"{pointer['version']:020d}.checkpoint.parquet").bytes()
        actions = pq.read_table(pa.BufferReader(content)).to_pylist()
        return pointer, Counter(repr(action) for action in actions)

    for number in range(12):
        merge(table, film(number % 5), number)
        if number % 4 == 3:
            write_checkpoint(lake, table.path)
            ours = made()
            lake.table(table.path).create_checkpoint()  # the same name: it replaces ours
            assert ours[0]["version"] == table.version()
            assert made()[1] == ours[1]
    pointer = bytes(obstore.get(objects, last).bytes()) + b" "
    obstore.put(objects, last, pointer)
    write_checkpoint(lake, table.path)
    assert bytes(obstore.get(objects, last).bytes()) == pointer, "there is nothing new to write"
    table.forget()
    assert len(content(table)) == 5


@pytest.fixture
def forgetful(lake: Lake) -> SilverTable:
    """A table that keeps no old file, after four merges into one row."""
    table = SilverTable(lake, f"short_{uuid.uuid4().hex[:8]}", KEYED, TableOptions(0))
    table.ensure()
    for number in range(4):
        merge(table, film(1, f"v{number}"), number)
    return table


def merge(table: SilverTable, row: dict[str, Any], number: int) -> None:
    with table.lock:
        ArrowEngine().merge(table, Folded(rows(KEYED, row)), Commit("t", number))


def test_replaced_files_go_when_their_retention_is_over(forgetful: SilverTable, lake: Lake) -> None:
    finish(maintain_table(forgetful, Steps(checkpoint=True)))
    finish(maintain_table(forgetful, Steps(clean=True)))
    selector = pa_fs.FileSelector(forgetful.path)
    found = [
        i.path for i in lake.filesystem().get_file_info(selector) if i.path.endswith("parquet")
    ]
    assert len(found) == 1
    assert content(forgetful) == Counter([(1, "v3", None)])


def test_merges_go_on_while_old_files_are_deleted(
    forgetful: SilverTable, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = iter(range(4, 100))

    class Deleting(DeltaStorageHandler):
        def delete_file(self, path: str) -> None:
            number = next(merged)
            merge(forgetful, film(number, f"v{number}"), number)  # waits forever if it is blocked
            super().delete_file(path)

    monkeypatch.setattr("spark_streaming.batch.upkeep.table_upkeep.DeltaStorageHandler", Deleting)
    drop_old(lake, forgetful.path, forgetful.lock, forgetful.handle)
    count = next(merged)
    assert count > 4
    expected = [(1, "v3", None), *((n, f"v{n}", None) for n in range(4, count))]
    assert content(forgetful) == Counter(expected)
    forgetful.forget()
    assert content(forgetful) == Counter(expected)


def test_files_of_a_commit_that_took_longer_than_the_retention_stay(
    forgetful: SilverTable, lake: Lake
) -> None:
    before = lake.table(forgetful.path)

    class AsItWas:
        """The lake of a process that has read it before the last commit."""

        def __getattr__(self, name: str) -> Any:
            return getattr(lake, name)

        def table(self, path: str) -> DeltaTable:
            return before

    merge(forgetful, film(2, "late"), 4)
    drop_old(AsItWas(), forgetful.path, forgetful.lock, forgetful.handle)  # type: ignore[arg-type]
    assert content(forgetful) == Counter([(1, "v3", None), (2, "late", None)])


def test_spark_reads_the_newest_version_across_the_missing_log_and_a_kept_one_by_its_files(
    forgetful: SilverTable, lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each had an hour of its own.
    monkeypatch.setattr(kept_versions, "thinned", lambda versions, *_: versions[::-1])
    where = (lake, forgetful.path, forgetful.lock, forgetful.handle, TimeTravel())
    drop_old(*where)
    kept = forgetful.version()
    for number in (4, 5):
        merge(forgetful, film(1, f"v{number}"), number)
    for number in (6, 7):
        drop_old(*where)
        merge(forgetful, film(1, f"v{number}"), number)
    newest = spark.read.format("delta").load(lake.spark_url(forgetful.path))
    assert [row.note for row in newest.collect()] == ["v7"]
    files = [uri.replace("s3:", "s3a:", 1) for uri in lake.table(forgetful.path, kept).file_uris()]
    assert [row.note for row in spark.read.parquet(*files).collect()] == ["v3"]

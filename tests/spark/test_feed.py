"""The change data feed with both engines: Python readers report exactly the changes of a merge."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import HeadwaterError
from app.readers.deltalake_reader import DeltaRsTable
from app.readers.follow import Table
from app.readers.spark_reader import SparkTable
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.fold.keyed import Folded
from spark_streaming.job_settings import SilverSettings
from spark_streaming.storage.change_feed import has_feed
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.tables.engine_protocol import Commit, MergeEngine
from spark_streaming.tables.engines.spark_merge import SparkEngine
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.spark.test_engines import film
from tests.support.folded import rows
from tests.unit.model import BAG, KEYED

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Told = Counter[tuple[int, str, int, Any]]
# From the table's creation: version → (change, key, note).
KEYED_CHANGES: Told = Counter(
    [
        (1, "insert", 1, "a"),
        (1, "insert", 2, "b"),
        (1, "insert", 3, "c"),
        (2, "update_preimage", 1, "a"),
        (2, "update_postimage", 1, "A"),
        (2, "delete", 2, "b"),
        (2, "insert", 4, None),
        (3, "delete", 1, "A"),
        (3, "delete", 3, "c"),
        (3, "delete", 4, None),
        (3, "insert", 5, "e"),
    ]
)
BAG_CHANGES: Told = Counter(
    [(1, "insert", 1, "a")] * 3
    # One commit deletes all copies and inserts the remaining ones again.
    + [(2, "delete", 1, "a")] * 3
    + [(2, "insert", 1, "a")] * 2
)


@pytest.fixture
def store(silver_settings: SilverSettings) -> ObjectStore:
    return silver_settings.store


def made(lake: Lake, contract: Contract, feed: str = "*") -> SilverTable:
    name = f"{contract.table}_{uuid.uuid4().hex[:8]}"
    table = SilverTable(lake, name, contract, TableOptions(change_data_feed=feed))
    table.ensure()
    return table


def told(table: Table, first: int = 0) -> Told:
    """A reader's changes from a version on, without metadata columns."""
    lines = [json.loads(change.line()) for change in table.changes(first, table.newest())]
    return Counter((x["version"], x["change"], x["row"]["id"], x["row"]["note"]) for x in lines)


def test_the_feed_tells_what_a_keyed_merge_did(
    lake: Lake, engine: MergeEngine, spark: SparkSession, store: ObjectStore
) -> None:
    table = made(lake, KEYED)
    first = rows(KEYED, film(1, "a"), film(2, "b"), film(3, "c"))
    engine.merge(table, Folded(first), Commit("t", 1))
    second = rows(KEYED, film(1, "A"), {**film(2), "_op": "d"}, film(4))
    engine.merge(table, Folded(second), Commit("t", 2))
    third = rows(KEYED, {**film(5, "e"), "_lsn": 300})
    engine.merge(table, Folded(third, truncate_lsn=Lsn(200)), Commit("t", 3))
    url = lake.url(table.path)
    assert told(DeltaRsTable(url, store)) == KEYED_CHANGES
    if isinstance(engine, SparkEngine):  # integration/ reads delta-rs' files with Spark
        assert told(SparkTable(spark, url)) == KEYED_CHANGES


def test_copies_that_are_put_back_are_told_as_gone_and_come(
    lake: Lake, engine: MergeEngine, store: ObjectStore
) -> None:
    table = made(lake, BAG)
    copy = {**film(1, "a"), "_op": "i"}
    engine.merge(table, Folded(rows(BAG, copy, copy, copy)), Commit("t", 1))
    engine.merge(table, Folded(rows(BAG, {**copy, "_op": "d"})), Commit("t", 2))
    assert told(DeltaRsTable(lake.url(table.path), store)) == BAG_CHANGES


def test_a_setting_switches_the_feed_of_a_table_that_is_there_on_and_off(
    lake: Lake, engine: MergeEngine, spark: SparkSession, store: ObjectStore
) -> None:
    table = made(lake, KEYED, feed="")
    engine.merge(table, Folded(rows(KEYED, film(1, "a"))), Commit("t", 1))
    with pytest.raises(HeadwaterError, match="no change data feed at version 1"):
        told(DeltaRsTable(lake.url(table.path), store), 1)
    if isinstance(engine, SparkEngine):
        with pytest.raises(HeadwaterError, match="no change data feed at version 1"):
            told(SparkTable(spark, lake.url(table.path)), 1)
    again = SilverTable(lake, table.name, KEYED, TableOptions(change_data_feed=table.name))
    assert not again.ensure() and has_feed(again.handle())
    engine.merge(again, Folded(rows(KEYED, film(1, "b"))), Commit("t", 2))
    since = again.version()
    expected = Counter([(since, "update_preimage", 1, "a"), (since, "update_postimage", 1, "b")])
    assert told(DeltaRsTable(lake.url(table.path), store), since) == expected
    off = SilverTable(lake, table.name, KEYED, TableOptions())
    assert not off.ensure() and not has_feed(off.handle())


def test_the_spark_reader_tells_what_is_not_there(
    lake: Lake, spark: SparkSession, store: ObjectStore
) -> None:
    with pytest.raises(HeadwaterError, match="there is no Delta table at"):
        SparkTable(spark, lake.url("silver/none")).newest()
    table = made(lake, KEYED)
    with pytest.raises(HeadwaterError, match="version 7 is not there"):
        list(SparkTable(spark, lake.url(table.path)).changes(7, 8))

"""Silver's names in lakes with tables of earlier releases, which kept only ASCII letters."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake as write_delta

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import topic_of
from spark_streaming.contract.types import Column
from spark_streaming.tables.ownership import SOURCE, mark, plain_description
from spark_streaming.tables.silver_names import LIST_S, SilverNames
from tests.support.disk_lake import DiskLake

TABLE = ("ünï", "täble")
GIVEN, NEW = "_n___t_ble", "ünï__täble"


def give(lake: DiskLake, name: str, description: str | None) -> None:
    """A silver table of this name that records its source table, or does not."""
    path = lake.url(lake.silver_path(name))
    write_delta(path, pa.table({"id": [1]}), description=description)


def keep(lake: DiskLake, schema: str, table: str, oid: int) -> None:
    column = Column("id", "integer", "int32")
    ContractStore(lake, "").keep(Contract(schema, table, (column,), key=("id",), oid=oid))


def test_a_new_table_keeps_its_letters(lake: DiskLake) -> None:
    assert SilverNames(lake).of(*TABLE) == NEW


def test_a_table_that_an_earlier_release_named_keeps_that_name(lake: DiskLake) -> None:
    give(lake, GIVEN, plain_description(*TABLE))
    names = SilverNames(lake)
    assert names.of(*TABLE) == GIVEN
    assert names.of("änï", "täble") == "änï__täble", "the name is given to one table"


def test_a_table_with_a_description_of_its_users_is_known_by_its_property(lake: DiskLake) -> None:
    give(lake, GIVEN, "What people bought")
    assert SilverNames(lake).of(*TABLE) == NEW
    table = lake.table(lake.silver_path(GIVEN))
    table.alter.set_table_properties({SOURCE: mark(*TABLE)}, raise_if_not_exists=False)
    assert SilverNames(lake).of(*TABLE) == GIVEN


@pytest.mark.parametrize("description", [None, ""])
def test_where_the_first_release_noted_nothing_the_older_of_its_tables_has_the_name(
    lake: DiskLake, description: str | None
) -> None:
    give(lake, "t_ble", description)
    keep(lake, "public", "töble", oid=9)
    keep(lake, "public", "täble", oid=4)
    names = SilverNames(lake)
    assert [names.of("public", one) for one in ("täble", "töble", "tüble")] == [
        "t_ble",
        "töble",
        "tüble",
    ]


def test_a_streams_table_gives_a_source_table_no_name(lake: DiskLake) -> None:
    give(lake, "t_ble", "events of stream t_ble")
    keep(lake, "public", "täble", oid=4)
    assert SilverNames(lake).of("public", "täble") == "täble"


def test_nothing_is_asked_of_the_store_for_a_plain_name(
    lake: DiskLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> None:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(DiskLake, "table", asked)
    monkeypatch.setattr(DiskLake, "filesystem", asked)
    assert SilverNames(lake).of("Sales", "Order Items") == "sales__order_items"


def test_a_topic_is_the_tables_whose_letters_its_name_has_lost(lake: DiskLake) -> None:
    now = [0.0]
    names = SilverNames(lake, clock=lambda: now[0])
    topic = topic_of("hw", *TABLE)
    assert topic == "hw._n_.t_ble"
    assert names.of_topic(topic, "hw") == "_n___t_ble", "nobody has told of the table yet"
    keep(lake, *TABLE, oid=1)
    now[0] = LIST_S
    assert names.of_topic(topic, "hw") == NEW
    assert names.source_of(topic, "hw") == TABLE
    assert names.of_topic("hw.transaction", "hw") is None

"""The edges of a captured table into silver, column by column, from its Delta metadata."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from app.catalog.delta_tables import LakeTables
from app.catalog.lineage_input import LineageTables
from app.lineage.edge import Edge
from app.lineage.table_edges import table_edges
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ColumnRules, Refinements
from spark_streaming.contract.names import STREAM
from spark_streaming.contract.types import Column
from spark_streaming.rules.declared_meaning import declared_meaning
from spark_streaming.tables.meaning import write_meaning
from spark_streaming.tables.ownership import SOURCE, mark
from tests.support.disk_lake import DiskLake


def edges_of(folder: Path, properties: dict[str, str], columns: list[str]) -> list[Edge]:
    """The edges of the one table of a lake in `folder`."""
    lake = DiskLake(folder)
    rows = pa.table({name: pa.array([], pa.string()) for name in columns})
    write_deltalake(lake.url("silver/guests"), rows)
    table = lake.table("silver/guests")
    table.alter.set_table_properties(properties, raise_if_not_exists=False)
    if SOURCE in properties:
        contract = Contract(
            "Club",
            "Guests",
            (
                Column("id", "integer", "int32", nullable=False),
                Column("E_Mail", "text", "text", source="E Mail"),
                Column("city", "text", "text"),
            ),
            ("id",),
        )
        content = Refinements(columns={"E_Mail": ColumnRules(mask="hash")})
        write_meaning(lake.table("silver/guests"), declared_meaning(contract, content, {}))
    identity = LakeTables(lake).identity("silver/guests")
    assert identity is not None
    [told] = LineageTables().of({"silver.guests": identity})
    return list(table_edges(told, "hw", "hw.stream-guests"))


def test_a_column_goes_from_the_source_by_its_topic_to_bronze_and_silver(tmp_path: Path) -> None:
    edges = edges_of(tmp_path, {SOURCE: mark("Club", "Guests")}, ["id", "E_Mail", "city", "_lsn"])
    assert [(str(e.origin), str(e.target), e.kind) for e in edges if "city" in str(e.origin)] == [
        ("source:Club.Guests.city", "topic:hw.Club.Guests.city", "copy"),
        ("topic:hw.Club.Guests.city", "bronze:hw.Club.Guests.city", "copy"),
        ("topic:hw.Club.Guests.city", "silver.guests.city", "copy"),
    ]


def test_a_masked_column_with_another_name_says_its_mask_and_its_name_in_the_source(
    tmp_path: Path,
) -> None:
    edges = edges_of(tmp_path, {SOURCE: mark("Club", "Guests")}, ["id", "E_Mail", "city", "_lsn"])
    [edge] = [e for e in edges if str(e.target) == "silver.guests.e_mail"]
    assert (str(edge.origin), edge.kind) == ("topic:hw.Club.Guests.E Mail", "mask:hash")


def test_silvers_own_columns_come_from_no_column_of_the_source(tmp_path: Path) -> None:
    edges = edges_of(tmp_path, {SOURCE: mark("Club", "Guests")}, ["id", "E_Mail", "city", "_lsn"])
    [edge] = [e for e in edges if e.target.column == "_lsn"]
    assert (str(edge.origin), edge.kind) == ("topic:hw.Club.Guests", "derived")


def test_a_streams_table_begins_at_its_topic(tmp_path: Path) -> None:
    edges = edges_of(tmp_path, {STREAM: "guests"}, ["event_key", "level", "_offset"])
    assert {str(e.origin.whole) for e in edges} == {"topic:hw.stream-guests"}
    assert {str(e.target) for e in edges if e.origin.column == "level"} == {
        "bronze:hw.stream-guests.level",
        "silver.guests.level",
    }


def test_a_table_of_neither_has_no_way(tmp_path: Path) -> None:
    assert edges_of(tmp_path, {}, ["a"]) == []

"""The metadata of a stream's table marks it as a stream, and has its file's descriptions."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.names import STREAM, stream_mark
from spark_streaming.streams.stream_contract import Stream, StreamContract, read_stream
from spark_streaming.streams.stream_event import Event
from spark_streaming.streams.stream_table import StreamTable
from spark_streaming.tables.meaning import ColumnMeaning, read_meaning
from spark_streaming.tables.ownership import Owners
from spark_streaming.tables.seal import seal
from tests.support.disk_lake import DiskLake

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.timezone.utc)
TOPIC = "hw.stream-shop"


def stream(**columns: Any) -> Stream:
    given = columns or {"title": {"type": "text"}}
    return Stream("shop", StreamContract.model_validate({"retention_days": 7, "columns": given}))


def test_a_streams_table_is_known_to_the_job_of_captured_tables(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    StreamTable(lake, stream(), 15).ensure()
    assert seal(lake, "silver/shop", 2) is False
    owners = Owners(lake, ContractStore(lake, ""))
    assert "a stream" in str(owners.claim("public", "shop").refusal)


def test_a_streams_table_of_an_earlier_release_gets_its_property(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    made = DeltaTable.create(
        lake.url("silver/shop"),
        schema=stream().schema(),
        description=stream_mark("shop"),
        partition_by=["day"],
    )
    assert STREAM not in made.metadata().configuration
    StreamTable(lake, stream(), 15).ensure()
    assert lake.table("silver/shop").metadata().configuration[STREAM] == "shop"


def test_a_streams_table_says_what_its_file_says_and_follows_it(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    column = {"type": "text", "description": "Who", "classification": "personal"}
    table = StreamTable(lake, stream(a=column, b={"type": "int64"}), 15)
    table.ensure()
    found = read_meaning(lake.table("silver/shop"))
    assert found.description == stream_mark("shop")
    assert found.columns["a"] == ColumnMeaning("Who", "personal")
    assert found.columns["b"] == ColumnMeaning()
    assert found.columns["event_time"].description
    told = stream(a={**column, "description": "Who asked"}, b={"type": "int64"})
    contract = told.contract.model_copy(update={"description": "Clicks", "tags": ["web"]})
    table.follow(Stream("shop", contract))
    table.append([Event("k", NOW, {"a": "x", "b": 1})], TOPIC, {0: 1}, NOW)
    found = read_meaning(lake.table("silver/shop"))
    assert (found.description, found.tags) == ("Clicks", ("web",))
    assert found.columns["a"] == ColumnMeaning("Who asked", "personal")
    assert seal(lake, "silver/shop", 2) is False, "another description, and still a stream's"


def test_a_stream_file_with_an_unknown_class_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text('retention_days = 7\n[columns.a]\ntype = "text"\nclassification = "secret"\n')
    with pytest.raises(ContractFileError, match=r"shop.toml:4: .*'personal'"):
        read_stream(path)

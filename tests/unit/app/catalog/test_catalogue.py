"""`ops.meaning` has the descriptions of tables, views and columns, and is written when one changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake

from app.catalog.catalogue import (
    PATH,
    SIZES_PAUSE_S,
    WRITE_PAUSE_S,
    Catalogue,
    MadeView,
    MeaningTable,
    trino_type,
)
from app.catalog.delta_tables import LakeTables
from app.catalog.views import View
from spark_streaming.storage.small_table import SmallTable
from spark_streaming.tables.kept_versions import NOTE, VersionsNote
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning, write_meaning
from tests.support.disk_lake import DiskLake

MEANT = TableMeaning(
    "People who buy",
    owner="sales",
    tags=("core",),
    key=("id",),
    contract_version=3,
    columns={"id": ColumnMeaning("Number"), "email": ColumnMeaning("Address", "personal")},
)
VIEW = View(
    "reports.top",
    "Who buys most?",
    ("silver.people",),
    "SELECT 1",
    owner="finance",
    columns=(("who", "the name"),),
    classes=(("who", "personal"),),
)


class World:
    """A lake with one table, and a catalogue that gets it like from the registrar."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.lake = DiskLake(folder)
        rows = pa.table({"id": [1, 2], "email": ["a", "b"]})
        write_deltalake(self.lake.url("silver/people"), rows)
        self.tables = LakeTables(self.lake)
        self.catalogue = Catalogue(MeaningTable(self.lake), self.tables, lambda: self.now)

    def people(self) -> DeltaTable:
        return self.lake.table("silver/people")

    def pass_after(self, seconds: float, views: dict[str, MadeView] | None = None) -> None:
        self.now += seconds
        identity = self.tables.identity("silver/people")
        assert identity is not None
        paths = {"silver.people": "silver/people"}
        self.catalogue.update({"silver.people": identity}, paths, views or {})

    def rows(self) -> list[dict[str, Any]]:
        return list(self.lake.table(PATH).to_pyarrow_table().to_pylist())

    def version(self) -> int:
        return int(self.lake.table(PATH).version())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_table_and_its_columns_have_rows_with_what_delta_says_of_them(world: World) -> None:
    write_meaning(world.people(), MEANT)
    world.pass_after(1)
    table, key, email = world.rows()
    assert (table["column_name"], table["description"], table["owner"]) == (
        None,
        "People who buy",
        "sales",
    )
    assert (table["tags"], table["key"], table["contract_version"]) == (["core"], ["id"], 3)
    assert table["rows"] == 2
    assert table["bytes"] == sum(
        pa.table(world.people().get_add_actions(flatten=True))["size_bytes"].to_pylist()
    )
    assert (key["column_name"], key["position"], key["type"]) == ("id", 1, "bigint")
    assert key["classification"] is None
    assert (email["type"], email["description"], email["classification"]) == (
        "varchar",
        "Address",
        "personal",
    )


def test_what_old_versions_take_comes_from_the_note_of_the_tables_last_clean_up(
    world: World,
) -> None:
    world.pass_after(1)
    assert [world.rows()[0][name] for name in ("old_bytes", "versions")] == [None, None]
    at = datetime(2026, 3, 1, tzinfo=timezone.utc)
    text = json.dumps({**asdict(VersionsNote(old_bytes=7)), "versions": [[3, at.isoformat()]]})
    (world.lake.folder / "silver/people" / NOTE).write_text(text)
    world.pass_after(120)
    table = world.rows()[0]
    assert (table["old_bytes"], table["versions"], table["versions_at"]) == (7, [3], [at])
    assert table["limited_at"] is None


def test_a_table_is_the_same_at_each_reading_and_when_something_else_is_said_of_it(
    world: World,
) -> None:
    write_meaning(world.people(), MEANT)
    first = world.tables.identity("silver/people")
    for _ in range(20):
        assert world.tables.identity("silver/people") == first
    other = replace(
        MEANT, columns={"id": ColumnMeaning("No."), "email": ColumnMeaning("", "internal")}
    )
    write_meaning(world.people(), other)
    assert world.tables.identity("silver/people") == first


def test_a_new_column_is_seen_by_the_commit_that_made_it(world: World) -> None:
    before = world.tables.identity("silver/people")
    assert before is not None and not before.holds("age")
    for column in ("age", "town"):
        added = Schema.from_arrow(pa.schema([(column, pa.int64())])).fields
        world.people().alter.add_columns(list(added))
        found = world.tables.identity("silver/people")
        assert found is not None and found.holds(column)
        assert found.table_id == before.table_id


@pytest.mark.parametrize("commits", [0, 1, 5])
def test_a_table_made_again_in_the_same_folder_is_another_one(world: World, commits: int) -> None:
    for _ in range(2):
        write_deltalake(world.people(), pa.table({"id": [3], "email": ["c"]}), mode="append")
    old, size = world.tables.identity("silver/people"), world.tables.size("silver/people")
    shutil.rmtree(world.lake.folder / "silver/people")
    assert world.tables.identity("silver/people") is None
    for _ in range(commits + 1):
        rows = pa.table({"id": [9], "email": ["z"]})
        write_deltalake(world.lake.url("silver/people"), rows, mode="append")
    new = world.tables.identity("silver/people")
    assert old is not None and new is not None and new.table_id != old.table_id
    found = world.tables.size("silver/people")
    assert size is not None and found is not None and (size.rows, found.rows) == (4, commits + 1)


def test_a_table_made_again_between_two_passes_is_another_one(world: World) -> None:
    for _ in range(2):
        write_deltalake(world.people(), pa.table({"id": [3], "email": ["c"]}), mode="append")
    old = world.tables.identity("silver/people")
    shutil.rmtree(world.lake.folder / "silver/people")
    for _ in range(5):  # its log has a commit of each number that the old one had
        rows = pa.table({"id": [9], "email": ["z"]})
        write_deltalake(world.lake.url("silver/people"), rows, mode="append")
    new = world.tables.identity("silver/people")
    assert old is not None and new is not None and new.table_id != old.table_id


def test_a_view_has_rows_with_what_its_file_says_and_the_types_that_trino_found(
    world: World,
) -> None:
    made = MadeView(VIEW, (("who", "varchar(20)"), ("sum", "decimal(12,2)")))
    world.pass_after(1, {"reports.top": made})
    view, who, total = [row for row in world.rows() if row["kind"] == "view"]
    assert (view["description"], view["owner"]) == ("Who buys most?", "finance")
    assert (who["type"], who["description"], who["classification"]) == (
        "varchar(20)",
        "the name",
        "personal",
    )
    assert (total["type"], total["description"]) == ("decimal(12,2)", None)


def test_a_changed_meaning_is_written_soon_and_an_unchanged_one_is_not(world: World) -> None:
    world.pass_after(1)
    before = world.version()
    world.pass_after(WRITE_PAUSE_S)
    assert world.version() == before
    write_meaning(world.people(), MEANT)
    world.pass_after(WRITE_PAUSE_S)
    assert world.version() == before + 1
    assert world.rows()[0]["description"] == "People who buy"


def test_grown_tables_are_written_once_a_minute(world: World) -> None:
    world.pass_after(1)
    before = world.version()
    write_deltalake(world.people(), pa.table({"id": [3], "email": ["c"]}), mode="append")
    world.pass_after(SIZES_PAUSE_S / 2)
    assert world.version() == before
    world.pass_after(SIZES_PAUSE_S / 2)
    assert world.version() == before + 1
    assert world.rows()[0]["rows"] == 3


def test_what_could_not_be_written_is_written_when_the_store_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def away(*_: object) -> None:
            raise OSError("the store is away")

        patched.setattr(SmallTable, "open", away)
        world.pass_after(1)
    assert not world.lake.exists(PATH)
    world.pass_after(WRITE_PAUSE_S)
    assert world.rows()


def test_types_are_named_as_trino_names_them(tmp_path: Path) -> None:
    kinds = pa.schema(
        [
            ("a", pa.decimal128(12, 2)),
            ("b", pa.list_(pa.string())),
            ("c", pa.timestamp("us", "UTC")),
            ("d", pa.timestamp("us")),
            ("e", pa.struct([("x", pa.float32()), ("y", pa.bool_())])),
            ("f", pa.int16()),
        ]
    )
    table = DeltaTable.create(str(tmp_path / "t"), schema=kinds)
    fields = json.loads(table.schema().to_json())["fields"]
    assert [trino_type(field["type"]) for field in fields] == [
        "decimal(12,2)",
        "array(varchar)",
        "timestamp(3) with time zone",
        "timestamp(6)",
        "row(x real, y boolean)",
        "smallint",
    ]

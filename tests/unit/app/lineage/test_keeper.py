"""`ops.lineage` is written when an edge changes, and only then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.lineage.edge import UNKNOWN
from app.lineage.keeper import CHANGE_PAUSE_S, ROUND_S, LineageKeeper, ViewQuery
from app.lineage.lineage_table import PATH, LineageTable
from app.lineage.run_reader import RunReader
from app.lineage.table_edges import Column, Table
from tests.support.disk_lake import DiskLake

PEOPLE = Table(
    "silver.people",
    (Column("id", "bigint"), Column("email", mask="partial"), Column("city")),
    ("public", "people"),
)
TOP = ViewQuery(
    "reports.top", "SELECT email AS who FROM silver.people", (("who", "varchar"),), (PEOPLE.name,)
)


class World:
    """A lake, and a keeper that gets tables like from the registrar."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.lake = DiskLake(folder / "lake")
        self.table = LineageTable(self.lake)
        self.keeper = LineageKeeper(
            self.table,
            RunReader(self.lake),
            "hw",
            lambda name: f"hw.stream-{name}",
            folder / "assets",
            clock=lambda: self.now,
        )

    def told(self, tables: list[Table], views: list[ViewQuery], after_s: float) -> None:
        self.now += after_s
        self.keeper.update(tables, views, {})
        self.keeper.await_round()

    def edges(self) -> set[tuple[str, str, str]]:
        return {(str(e.origin), str(e.target), e.kind) for e in self.table.read()}

    def version(self) -> int:
        return int(self.lake.table(PATH).version())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_edges_of_tables_and_views_are_there_after_the_first_round(world: World) -> None:
    world.told([PEOPLE], [TOP], 0)
    assert len(world.edges()) == 10
    assert ("topic:hw.public.people.email", "silver.people.email", "mask:partial") in world.edges()
    assert ("silver.people.email", "reports.top.who", "copy") in world.edges()


def test_nothing_is_written_while_nothing_changes_also_by_a_new_process(
    world: World, tmp_path: Path
) -> None:
    world.told([PEOPLE], [TOP], 0)
    version = world.version()
    world.told([PEOPLE], [TOP], ROUND_S)
    World(tmp_path).told([PEOPLE], [TOP], 0)
    assert world.version() == version


def test_edges_follow_a_changed_view_and_a_changed_mask(world: World) -> None:
    world.told([PEOPLE], [TOP], 0)
    city = replace(TOP, select="SELECT upper(city) AS who FROM silver.people")
    bare = replace(PEOPLE, columns=tuple(replace(one, mask="") for one in PEOPLE.columns))
    world.told([bare], [city], CHANGE_PAUSE_S)
    assert ("silver.people.city", "reports.top.who", "derived") in world.edges()
    assert ("silver.people.email", "reports.top.who", "copy") not in world.edges()
    assert ("topic:hw.public.people.email", "silver.people.email", "copy") in world.edges()


def test_a_view_that_cannot_be_read_is_an_edge_that_says_why(world: World) -> None:
    world.told([PEOPLE], [replace(TOP, select="SELECT FROM WHERE")], 0)
    [edge] = [e for e in world.table.read() if e.kind == UNKNOWN]
    assert (str(edge.origin), str(edge.target)) == ("silver.people", "reports.top")
    assert edge.detail


def test_a_store_that_is_away_is_asked_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.lake.away = True
    world.told([PEOPLE], [], 0)
    assert "ops.lineage could not be written" in caplog.text
    world.lake.away = False
    world.told([PEOPLE], [], CHANGE_PAUSE_S)
    assert world.edges()


def test_a_wrong_asset_stops_no_tables_edges(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "assets" / "datasets").mkdir(parents=True)
    (tmp_path / "assets" / "datasets" / "a.yaml").write_text("uuid: 1\ndatabase_uuid: 2\n")
    world.told([PEOPLE], [], 0)
    assert world.edges()
    assert "lacks Superset's assets" in caplog.text

"""Silver's tables have the descriptions of contract files and of the source's comments, and follow both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from spark_streaming.contract.contract_store import CatalogUnreachableError
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.catalog_watch import CatalogWatch
from spark_streaming.schema.describer import FULL_CHECK_S, Describer
from spark_streaming.tables.engine_protocol import Commit
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning, read_meaning
from spark_streaming.tables.ownership import plain_description
from tests.support.disk_lake import DiskLake
from tests.unit.spark_streaming.batch.test_bag_changes import World

FILMS = ("public", "films")
FILE = """description = "What we lend"
owner = "lending"
domain = "catalogue"
tags = ["core", "movies"]
[columns.note]
description = "What a clerk wrote"
classification = "personal"
"""


class Desk:
    """A table with rows, its contract files, its source's comments, and the describer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "contracts"
        self.folder.mkdir()
        self.now = 1000.0
        self.source: dict[str, str] | None = {}
        self.world = World(DiskLake(folder / "lake"))
        self.world.run(1, self.world.insert(id=1, note="a"))
        self.begin()

    def begin(self) -> None:
        files = ContractFolder([self.folder], clock=lambda: self.now)
        self.describer = Describer(
            self.world.topics,
            self.world.catalog,
            files,
            cast(CatalogWatch, self),
            clock=lambda: self.now,
        )

    def comments(self) -> dict[tuple[str, str], dict[str, str]]:
        if self.source is None:
            raise CatalogUnreachableError("the source is away")
        return {FILMS: self.source}

    def file(self, text: str) -> None:
        (self.folder / "public.films.toml").write_text(text)

    def check(self, after_s: float = 5.0) -> int:
        self.now += after_s
        return self.describer.check()

    def meaning(self) -> TableMeaning:
        return read_meaning(self.world.lake.table("silver/films"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.describer.stop()


def test_a_file_says_what_a_table_and_its_columns_mean(desk: Desk) -> None:
    desk.file(FILE)
    assert desk.check() == 3
    found = desk.meaning()
    assert (found.description, found.owner, found.domain) == (
        "What we lend",
        "lending",
        "catalogue",
    )
    assert (found.tags, found.contract_version) == (("core", "movies"), 1)
    assert found.columns["note"] == ColumnMeaning("What a clerk wrote", "personal")
    assert found.columns["id"] == ColumnMeaning()
    assert found.columns["_lsn"].description


def test_what_is_said_already_makes_no_commit(desk: Desk) -> None:
    desk.file(FILE)
    desk.check()
    assert [desk.check(), desk.check(FULL_CHECK_S)] == [0, 0]


def test_without_a_file_the_sources_comments_count_and_are_followed(desk: Desk) -> None:
    desk.source = {"": "Films on tape", "note": "By a clerk"}
    desk.check()
    assert desk.meaning().description == "Films on tape"
    assert desk.meaning().columns["note"] == ColumnMeaning("By a clerk")
    desk.source = {"note": "By any clerk"}
    assert desk.check() == 2
    assert desk.meaning().description == plain_description(*FILMS)
    assert desk.meaning().columns["note"] == ColumnMeaning("By any clerk")


def test_a_file_goes_before_the_comments_key_by_key(desk: Desk) -> None:
    desk.source = {"": "Films on tape", "note": "By a clerk"}
    desk.file('[columns.note]\nclassification = "internal"\n')
    desk.check()
    assert desk.meaning().description == "Films on tape"
    assert desk.meaning().columns["note"] == ColumnMeaning("By a clerk", "internal")
    desk.file(FILE)
    desk.check()
    assert desk.meaning().description == "What we lend"
    assert desk.meaning().columns["note"] == ColumnMeaning("What a clerk wrote", "personal")


def test_merges_go_on_over_a_described_table_and_keep_what_it_says(desk: Desk) -> None:
    desk.file(FILE)
    desk.check()
    said = desk.meaning()
    desk.world.run(2, desk.world.insert(id=2, note="b"))
    desk.file(FILE.replace("clerk", "person"))
    desk.check()
    desk.world.run(3, desk.world.insert(id=3, note="c"))
    assert desk.world.ids() == {1: 1, 2: 1, 3: 1}
    assert desk.meaning().columns["note"].description == "What a person wrote"
    assert desk.meaning().tags == said.tags


def test_a_table_that_was_written_again_is_described_again(desk: Desk) -> None:
    desk.file(FILE)
    desk.check()
    [table] = desk.world.topics.tables()
    table.replace_rows(desk.world.lake.table(table.path).to_pyarrow_dataset(), Commit("rebuilt", 1))
    assert desk.meaning().columns["note"] == ColumnMeaning()
    assert desk.check(FULL_CHECK_S) == 1
    assert desk.meaning().columns["note"] == ColumnMeaning("What a clerk wrote", "personal")


def test_a_table_without_an_event_since_the_start_follows_too(desk: Desk) -> None:
    desk.world.restart()
    desk.begin()
    assert not desk.world.topics.tables()
    desk.file(FILE)
    assert desk.check() == 3
    assert desk.meaning().owner == "lending"
    assert desk.check(FULL_CHECK_S) == 0


def test_nothing_changes_while_the_file_is_wrong_or_the_source_has_not_answered(desk: Desk) -> None:
    desk.source = None
    desk.file(FILE)
    assert desk.check() == 0
    desk.source = {}
    desk.check()
    desk.file(FILE.replace("personal", "secret"))
    desk.source = None
    assert desk.check(FULL_CHECK_S) == 0
    assert desk.meaning().columns["note"].classification == "personal"


def test_a_class_that_is_taken_back_is_gone(desk: Desk) -> None:
    desk.file(FILE)
    desk.check()
    (desk.folder / "public.films.toml").unlink()
    desk.check()
    found = desk.meaning()
    assert (found.owner, found.tags, found.columns["note"]) == ("", (), ColumnMeaning())


def test_a_text_longer_than_delta_takes_is_cut(desk: Desk) -> None:
    desk.source = {"": "ü" * 9_000, "note": "n" * 9_000}
    assert desk.check() == 3
    assert desk.check(FULL_CHECK_S) == 0
    assert desk.meaning().columns["note"].description == "n" * 9_000

"""Both merge engines write tables whose metadata has descriptions, and keep the descriptions."""

from __future__ import annotations

from collections import Counter

from spark_streaming.fold.keyed import Folded
from spark_streaming.tables.engine_protocol import Commit, MergeEngine
from spark_streaming.tables.meaning import (
    ColumnMeaning,
    TableMeaning,
    read_meaning,
    write_meaning,
)
from tests.spark.conftest import MakeTable
from tests.spark.test_engines import content, film
from tests.support.folded import rows
from tests.unit.model import KEYED

MEANT = TableMeaning(
    "Films that are lent",
    owner="desk",
    tags=("core",),
    columns={"note": ColumnMeaning("By a clerk", "personal"), "id": ColumnMeaning("Number")},
)


def test_a_described_table_is_merged_and_keeps_its_descriptions(
    engine: MergeEngine, make_table: MakeTable
) -> None:
    table = make_table(KEYED)
    engine.merge(table, Folded(rows(KEYED, film(1, "a"), film(2, "b"))), Commit("t", 1))
    assert write_meaning(table.handle(), MEANT) == 3
    change = rows(KEYED, film(1, "A"), {**film(2), "_op": "d"}, film(3, "c"))
    engine.merge(table, Folded(change), Commit("t", 2))
    changed = {**MEANT.columns, "note": ColumnMeaning("By any clerk", "personal")}
    assert write_meaning(table.handle(), TableMeaning("Films", columns=changed)) == 3
    engine.merge(table, Folded(rows(KEYED, film(4, "d"))), Commit("t", 3))
    assert content(table) == Counter([(1, "A", None), (3, "c", None), (4, "d", None)])
    found = read_meaning(table.lake.table(table.path))
    assert (found.description, found.tags) == ("Films", ())
    assert found.columns["note"] == ColumnMeaning("By any clerk", "personal")
    assert found.columns["id"] == ColumnMeaning("Number")

"""What a contract file, and a changed table, make of a history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError, read_file
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.history.history_pass import refusal
from spark_streaming.rules.rules import bind
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning, read_meaning, write_meaning
from spark_streaming.tables.silver_table import SilverTable
from tests.unit.debezium_events import event
from tests.unit.model import BAG, KEYED
from tests.unit.spark_streaming.history.history_world import OPTIONS, HistoryWorld

YEAR = Column("year", "integer", "int32", base_type="int4")
WIDE = replace(KEYED, columns=(*KEYED.columns, YEAR), version=2)


def film(op: str, number: int, **row: Any) -> RawEvent:
    """The change with this number: its LSN is ten times that, its commit five more."""
    after = None if op == "d" else {"id": 1, "note": None, "big": "b", **row}
    lsn = number * 10
    return event(op, lsn=lsn, key={"id": 1}, after=after, commit=lsn - 5, offset=number - 1)


def told(folder: Path, said: str, *events: RawEvent, contract: Contract = KEYED) -> HistoryWorld:
    world = HistoryWorld(folder, said, contract)
    world.put(events)
    world.commit([number * 10 + 5 for number in range(1, 20)])
    world.process().run()
    return world


def test_a_history_of_a_table_without_a_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "public.films.toml"
    path.write_text('owner = "us"\nhistory = "last"\n')
    with pytest.raises(ContractFileError) as refused:
        bind(read_file(path), BAG)
    assert "films has no key: of equal rows nothing tells which one changed" in str(refused.value)
    assert f"{path}:2" in str(refused.value)
    bind(read_file(path), KEYED)


def test_another_word_than_each_or_last_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "public.films.toml"
    path.write_text('history = "all"\n')
    with pytest.raises(ContractFileError, match="'each' or 'last'"):
        read_file(path)


def test_a_table_with_a_column_of_a_historys_own_name_has_none() -> None:
    taken = replace(KEYED, columns=(*KEYED.columns, replace(YEAR, name="_Valid_From")))
    assert refusal(taken) == "the source's own column(s) are named _valid_from"
    assert refusal(KEYED) is None


def test_a_table_whose_key_columns_changed_keeps_the_history_that_it_has(tmp_path: Path) -> None:
    world = told(tmp_path, 'history = "each"', film("c", 1, note="one"))
    other = replace(KEYED, key=("note",), version=2, previous_versions=(KEYED,))
    world.contract = other
    world.put([film("u", 2, note="two")])
    assert world.process().run() == 0
    assert world.versions("note") == [("one",)]


def test_masks_hold_for_every_version(tmp_path: Path) -> None:
    said = 'history = "each"\n[columns.note]\nmask = "partial"\n'
    world = told(tmp_path, said, film("c", 1, note="ana@example.com"), film("u", 2, note="short"))
    assert world.versions("note") == [("a***@example.com",), ("***",)]


def test_a_mask_that_comes_later_hides_every_version(tmp_path: Path) -> None:
    world = told(tmp_path, 'history = "each"', film("c", 1, note="one"), film("u", 2, note="two"))
    assert world.versions("note") == [("one",), ("two",)]
    world.say('history = "each"\n[columns.note]\nmask = "redact"\n')
    world.process().run()
    assert world.versions("note", "_valid_from_lsn") == [("***", 15), ("***", 25)]


def test_a_masked_key_is_one_row_from_version_to_version(tmp_path: Path) -> None:
    contract = replace(KEYED, key=("note",))
    said = 'history = "each"\n[columns.note]\nmask = "hash"\n'
    events = [
        event(op, lsn=n * 10, key={"note": "k"}, after=row, commit=n * 10 - 5, offset=n - 1)
        for n, (op, row) in enumerate(
            [
                ("c", {"id": 1, "note": "k", "big": "b"}),
                ("u", {"id": 2, "note": "k", "big": "b"}),
                ("d", None),
            ],
            start=1,
        )
    ]
    world = told(tmp_path, said, *events, contract=contract)
    found = world.versions("note", "_ended_by")
    assert [reason for _, reason in found] == ["update", "delete"]
    assert len({note for note, _ in found}) == 1 and len(found[0][0]) == 64


def test_the_other_mode_fills_the_table_again(tmp_path: Path) -> None:
    one = film("c", 1, note="one")
    two = event("u", lsn=12, key={"id": 1}, after={"id": 1, "note": "two", "big": "b"}, commit=5, offset=1, order=2)  # fmt: skip
    world = told(tmp_path, 'history = "each"', one, two)
    assert world.versions("note", "_operation") == [("one", "insert"), ("two", "update")]
    for mode, expected in (
        ("last", [("two", "insert")]),
        ("each", [("one", "insert"), ("two", "update")]),
    ):
        world.say(f'history = "{mode}"')
        world.process().run()
        assert world.versions("note", "_operation") == expected


def test_a_column_that_is_added_comes_and_older_versions_stay(tmp_path: Path) -> None:
    world = told(tmp_path, 'history = "each"', film("c", 1, note="one"))
    before = world.lake.table("history/films").file_uris()
    world.contract = replace(WIDE, previous_versions=(KEYED,))
    world.process().run()
    assert world.versions("note", "year") == [("one", None)]
    assert world.lake.table("history/films").file_uris() == before
    world.put([film("u", 2, note="two", year=1999)])
    world.process().run()
    assert world.versions("note", "year") == [("one", None), ("two", 1999)]


def test_events_with_a_column_that_silver_does_not_follow_yet_wait(tmp_path: Path) -> None:
    world = told(tmp_path, 'history = "each"', film("c", 1, note="one"))
    world.put([film("u", 2, note="two", year=1999)])
    world.process().run()
    assert world.versions("note") == [("one",)]
    world.contract = WIDE
    world.process().run()
    assert world.versions("note", "year") == [("one", None), ("two", 1999)]


def test_a_column_of_another_type_fills_the_table_again(tmp_path: Path) -> None:
    small = replace(WIDE, version=1)
    world = told(tmp_path, 'history = "each"', film("c", 1, year=1999), contract=small)
    long = replace(YEAR, pg_type="bigint", kind="int64", base_type="int8")
    world.contract = replace(WIDE, columns=(*KEYED.columns, long), previous_versions=(small,))
    world.put([film("u", 2, year=5_000_000_000)])
    world.process().run()
    assert world.versions("year", "_valid_from_lsn") == [(1999, 15), (5_000_000_000, 25)]


def test_a_version_that_breaks_a_condition_is_left_out_and_the_one_before_is_marked(
    tmp_path: Path,
) -> None:
    said = 'history = "each"\n[columns.note]\nnot_null = true\n'
    events = film("c", 1, note="one"), film("u", 2), film("u", 3, note="three")
    world = told(tmp_path, said, *events[:2])
    assert world.versions("note", "_quarantined", "_is_current") == [("one", True, True)]
    world.put(events[2:])
    world.process().run()
    assert world.versions("note", "_valid_to_lsn") == [("one", 35), ("three", None)]


def test_an_event_that_cannot_be_decoded_marks_its_rows_version(tmp_path: Path) -> None:
    contract = replace(WIDE, version=1)
    events = film("c", 1, year=1999), film("u", 2, year="MMXX")
    world = told(tmp_path, 'history = "each"', *events, contract=contract)
    assert world.versions("year", "_quarantined") == [(1999, True)]


def test_a_history_has_the_classes_of_its_table(tmp_path: Path) -> None:
    world = HistoryWorld(tmp_path, 'history = "each"')
    silver = SilverTable(world.lake, "films", KEYED, OPTIONS)
    silver.ensure()
    note = ColumnMeaning("What was noted.", "personal")
    write_meaning(silver.handle(), TableMeaning("Films.", owner="us", columns={"note": note}))
    world.put([film("c", 1, note="one")])
    world.commit([15])
    world.process().run()
    found = read_meaning(world.lake.table("history/films"))
    assert found.columns["note"] == note
    assert found.columns["_valid_from"].classification == "internal"
    assert found.owner == "us"
    assert found.description == "Every version of each row of silver's table. Films."

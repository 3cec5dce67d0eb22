"""What is refused before anything is erased, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from deltalake import write_deltalake

from app.erase.guards import await_silver, check_no_rebuild, check_table
from app.erase.old_files import old_files_with, remove
from app.erase.stores import RowStores, as_stored
from app.errors import HeadwaterError
from app.lake.lakehouse import LedgerEntry
from app.trace.trace_key import parse_key
from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.masks import hashed
from spark_streaming.contract.types import Column
from spark_streaming.events.envelope import HighWater
from spark_streaming.ops.erase_requests import ErasedKey
from spark_streaming.rules.rules import TableRules
from tests.support.disk_lake import DiskLake
from tests.unit.model import BAG, KEYED

RUNNING = LedgerEntry(
    "films", 1, 1, {}, Lsn(100), datetime(2026, 1, 1, tzinfo=timezone.utc), HighWater()
)


class Ledger:
    """A lakehouse with these ledger entries, one after the other; the last one stays."""

    def __init__(self, *entries: LedgerEntry, whole: int = 0) -> None:
        self.entries = list(entries)
        self.whole = Lsn(whole)

    def complete_lsn(self) -> Lsn:
        return self.whole

    def ledger(self) -> dict[str, LedgerEntry]:
        entry = self.entries.pop(0) if len(self.entries) > 1 else self.entries[0]
        return {entry.table: entry}


def awaited(
    *entries: LedgerEntry, has_row: bool = False, wait_s: float = 0, whole: int = 0
) -> LedgerEntry:
    lake: Any = Ledger(*entries, whole=whole)
    return await_silver(lake, "films", Lsn(90), lambda: has_row, wait_s=wait_s)


def test_a_table_without_a_key_is_refused_with_the_reason() -> None:
    with pytest.raises(HeadwaterError) as refused:
        check_table(BAG)
    assert "the table has no key" in refused.value.message
    assert "ADD PRIMARY KEY" in (refused.value.hint or "")
    check_table(KEYED)


def test_a_table_whose_key_columns_changed_is_refused() -> None:
    def numbered(key: tuple[str, ...], *older: Contract) -> Contract:
        columns = tuple(
            Column(name, "integer", "int32", attnum=number)
            for number, name in enumerate(("id", "code"), 1)
        )
        return Contract("public", "films", columns, key, previous_versions=older)

    with pytest.raises(HeadwaterError, match="key columns changed"):
        check_table(numbered(("code",), numbered(("id",))))
    check_table(numbered(("id",), numbered(("id",))))


def test_silver_is_awaited_until_it_has_the_delete() -> None:
    behind = replace(RUNNING, complete_lsn=Lsn(80))
    assert awaited(behind, replace(RUNNING, complete_lsn=None), RUNNING, wait_s=30) is RUNNING


def test_a_quiet_table_is_complete_with_the_others() -> None:
    quiet = replace(RUNNING, complete_lsn=Lsn(10))
    assert awaited(quiet, whole=95) is quiet
    with pytest.raises(HeadwaterError, match="has not merged"):
        awaited(replace(quiet, state="resuming"), whole=95)


@pytest.mark.parametrize("state", ["stopped", "refused"])
def test_a_table_that_is_stopped_is_refused_at_once(state: str) -> None:
    stopped = replace(RUNNING, state=state, reason="odd events")
    with pytest.raises(HeadwaterError) as refused:
        awaited(stopped, wait_s=1_000)
    assert refused.value.detail == "odd events" and state in refused.value.message


def test_a_row_that_silver_keeps_although_it_is_complete_is_told_apart_from_a_delay() -> None:
    with pytest.raises(HeadwaterError, match="still has the row"):
        awaited(RUNNING, has_row=True)
    with pytest.raises(HeadwaterError, match="has not merged"):
        awaited(replace(RUNNING, complete_lsn=Lsn(80)))


def test_an_unfinished_rebuild_holds_rows_aside_and_a_finished_one_does_not(tmp_path: Path) -> None:
    lake: Any = Ledger(RUNNING)
    lake.lake = DiskLake(tmp_path)
    check_no_rebuild(lake, "films", RUNNING)
    RebuildStore(lake.lake).keep(Rebuild("one", "films", "public", "films", "hw.public.films"))
    with pytest.raises(HeadwaterError, match="rebuild of `films` is not finished"):
        check_no_rebuild(lake, "films", RUNNING)
    check_no_rebuild(lake, "films", replace(RUNNING, generation="one"))


def rows(*pairs: tuple[str, int]) -> pa.Table:
    ids, lsns = zip(*pairs, strict=True)
    return pa.table({"id": pa.array(ids, pa.string()), "_lsn": pa.array(lsns, pa.int64())})


def stores(lake: DiskLake, text: str, mask: str | None = None) -> RowStores:
    contract = Contract("public", "films", (Column("id", "text", "text"),), ("id",))
    rules = TableRules("public", "films", masks={"id": mask} if mask else {})
    key = parse_key(contract, text)
    spans = [(as_stored(key, rules, b"secret"), ErasedKey(key.raws))]
    return RowStores(lake, "films", spans, ())


@pytest.mark.parametrize("mask", [None, "hash"])
def test_old_files_with_the_row_go_and_those_without_it_and_the_current_ones_stay(
    tmp_path: Path, mask: str | None
) -> None:
    lake = DiskLake(tmp_path)
    mine = hashed(b"secret")("a") if mask else "a"
    path = lake.url(lake.silver_path("films"))
    for table in (rows((mine, 1), ("b", 2)), rows(("b", 2)), rows(("b", 3))):
        write_deltalake(path, table, mode="overwrite")
    wanted = stores(lake, "a", mask)
    files = old_files_with(lake, wanted.silver, wanted.any_key)
    assert len(files) == 1 and files[0].size > 0
    remove(lake, files)
    remove(lake, files)  # the writer's vacuum may have been faster
    assert old_files_with(lake, wanted.silver, wanted.any_key) == []
    assert len(list((tmp_path / "silver" / "films").glob("*.parquet"))) == 2
    assert lake.table(wanted.silver, 1).to_pyarrow_table()["id"].to_pylist() == ["b"]
    with pytest.raises(OSError):  # time travel to it fails instead of showing the row
        lake.table(wanted.silver, 0).to_pyarrow_table()


def test_a_file_of_the_current_version_is_never_an_old_one(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    write_deltalake(lake.url(lake.silver_path("films")), rows(("a", 1)))
    wanted = stores(lake, "a")
    assert wanted.count(wanted.silver, wanted.whole) == 1
    assert old_files_with(lake, wanted.silver, wanted.any_key) == []


def test_texts_are_found_in_files_that_have_them_as_views(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    write_deltalake(lake.url(lake.silver_path("films")), rows(("b", 1)))
    old = rows(("b", 2), ("a", 3)).set_column(0, "id", pa.array(["b", "a"], pa.string_view()))
    parquet.write_table(old, tmp_path / "silver" / "films" / "old.parquet")
    wanted = stores(lake, "a")
    [file] = old_files_with(lake, wanted.silver, wanted.any_key)
    assert file.path.endswith("old.parquet")

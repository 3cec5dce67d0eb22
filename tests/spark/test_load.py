"""Loading files into tables of the lake in the real object store: each file once, with its rejects."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from app.errors import HeadwaterError
from app.jobs.load import load_task
from app.jobs.load.file_contract import FileContract, read_file_contract
from app.jobs.load.file_rows import SUFFIXES
from app.jobs.load.file_table import FileTable
from app.jobs.load.load_task import Load
from app.jobs.load.source_files import QUIET_S, Source
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.job_settings import SilverSettings
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.storage.store_clients import arrow_files

CONTRACT = """
description = "visits by day"

[columns.id]
type = "int64"
not_null = true

[columns.page]
type = "text"
max_length = 5
"""


class Folder:
    """A folder of files, its contract, and its table in a separate lake."""

    def __init__(self, store: ObjectStore, path: Path) -> None:
        self.store = store
        self.lake = Lake(store).below(f"load-{uuid.uuid4().hex[:8]}")
        self.path = path / "in"
        self.path.mkdir()
        contract = path / "contract.toml"
        contract.write_text(CONTRACT)
        self.contract = read_file_contract(contract)

    def put(self, name: str, text: str, age_s: float = 60.0) -> None:
        file = self.path / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text)
        os.utime(file, (time.time() - age_s,) * 2)

    def load(self, source: str = "", contract: FileContract | None = None) -> dict[str, int]:
        contract = contract or self.contract
        table = FileTable(self.lake, "visits", contract)
        found = Source(source or str(self.path), self.store, SUFFIXES["csv"])
        return Load(found, "csv", table, contract).run()

    def rows(self, path: str = "files/visits") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.table(path).to_pyarrow_table().to_pylist()
        return rows


@pytest.fixture
def folder(silver_settings: SilverSettings, tmp_path: Path) -> Folder:
    return Folder(silver_settings.store, tmp_path)


def test_each_file_is_loaded_once_and_its_bad_rows_are_told(folder: Folder) -> None:
    folder.put("a.csv", "id,page\n1,home\n2,much too long\nx,home\n4,\n")
    folder.put("more/b.csv", "page,id\nshop,5\n")
    folder.put("empty.csv", "id,page\n")
    folder.put(".hidden.csv", "id\n9\n")
    folder.put("half.csv.part", "id\n9\n")
    folder.put("new.csv", "id\n9\n", age_s=QUIET_S - 4)
    assert folder.load() == {"files": 3, "rows_written": 3, "rejected": 2, "waiting": 1}
    found = sorted((row["_file"], row["_line"], row["id"], row["page"]) for row in folder.rows())
    assert found == [("a.csv", 1, 1, "home"), ("a.csv", 4, 4, None), ("more/b.csv", 1, 5, "shop")]
    rejected = {row["line"]: row for row in folder.rows("files/rejected")}
    assert {line: row["rule"] for line, row in rejected.items()} == {
        2: "breaks-contract",
        3: "breaks-contract",
    }
    assert rejected[3]["raw"] == "x,home" and rejected[3]["table_name"] == "visits"
    assert "page" in rejected[2]["reason"]

    folder.put("new.csv", "id\n9\n")
    assert folder.load() == {"files": 1, "rows_written": 1, "rejected": 0, "waiting": 0}
    folder.put("a.csv", (folder.path / "a.csv").read_text(), age_s=30)  # only another time
    assert folder.load() == {"files": 0, "rows_written": 0, "rejected": 0, "waiting": 0}
    assert len(folder.rows()) == 4
    assert folder.lake.table("files/visits").metadata().description == "visits by day"


def test_a_load_that_was_cut_goes_on_and_says_nothing_twice(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a.csv", "id,page\n1,home\nx,home\n")
    folder.put("b.csv", "id,page\n2,home\n")
    whole = FileTable.append

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FileTable, "append", cut)
    with pytest.raises(KeyboardInterrupt):
        folder.load()
    monkeypatch.setattr(FileTable, "append", whole)
    assert folder.load()["rows_written"] == 2
    assert len(folder.rows()) == 2 and len(folder.rows("files/rejected")) == 1


def test_a_changed_file_and_one_of_another_form_are_errors_and_keep_no_other_back(
    folder: Folder,
) -> None:
    folder.put("a.csv", "id,page\n1,home\n")
    folder.load()
    folder.put("a.csv", "id,page\n1,home\n2,home\n", age_s=30)
    folder.put("b.csv", "id,page\n" + "x,home\n" * (load_task.REJECTED_MAX + 1))
    folder.put("c.csv", "id,page\n3,home\n")
    with pytest.raises(HeadwaterError) as raised:
        folder.load()
    assert str(raised.value) == (
        "2 of 3 files were not loaded\n  detail: a.csv: the file changed after it was loaded"
    )
    assert sorted(row["id"] for row in folder.rows()) == [1, 3]
    # An additional column is accepted; one of another type is refused before anything is read.
    wider = CONTRACT + '\n[columns.seconds]\ntype = "float64"\n'
    (folder.path.parent / "wider.toml").write_text(wider)
    (folder.path / "a.csv").unlink()
    (folder.path / "b.csv").unlink()
    folder.put("d.csv", "id,seconds\n4,1.5\n")
    folder.load(contract=read_file_contract(folder.path.parent / "wider.toml"))
    assert {row["id"]: row["seconds"] for row in folder.rows()} == {1: None, 3: None, 4: 1.5}
    (folder.path.parent / "other.toml").write_text(CONTRACT.replace("int64", "text"))
    with pytest.raises(HeadwaterError, match=r"`files\.visits` has `id` as int64"):
        folder.load(contract=read_file_contract(folder.path.parent / "other.toml"))


def test_files_come_from_a_bucket_of_the_stacks_store(folder: Folder) -> None:
    store = folder.store
    place = f"{store.lake_bucket}/dropped-{uuid.uuid4().hex[:8]}"
    files: Any = arrow_files(store, f"{place}/")
    with files.open_output_stream("a.csv") as stream:
        stream.write(b"id,page\n1,home\n")
    time.sleep(QUIET_S + 1)  # the store's own clock says when it was written
    assert folder.load(f"s3://{place}")["rows_written"] == 1


def test_a_missing_folder_and_a_wrong_contract_are_plain_errors(
    folder: Folder, tmp_path: Path
) -> None:
    with pytest.raises(HeadwaterError, match="there is no folder /none"):
        folder.load("/none")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[columns._line]\ntype = "int64"\n[columns.a]\ntype = "money"\n')
    with pytest.raises(ContractFileError) as raised:
        read_file_contract(wrong)
    assert len(raised.value.problems) == 2

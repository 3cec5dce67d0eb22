"""A table of a moment is verified against the current table's version of that time, or reported as not verified."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.rebuild.extra_tables import ExtraTables, description
from app.rebuild.moment import Cut, Moment
from app.rebuild.moment_proof import DIFFERENT, EQUAL, NOT_PROVED, Proof, prove, prove_by_replay
from app.rebuild.moment_rebuild import exit_code
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.ops.ledger import Ledger, LedgerRow
from tests.support.disk_lake import DiskLake
from tests.unit.model import KEYED

TOPIC = "hw.public.films"
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
MOMENT = Moment(Lsn(100), Lsn(100), WHEN)
# Offsets 0 to 3 belong to the moment, the event at 5 does not.
CUT = Cut(MOMENT, ends={0: 4}, beyond={0: 5})


class LakeInFolder(Lakehouse):
    """A lakehouse in a folder, with `films` and its ledger."""

    def __init__(self, folder: Path) -> None:
        self._lake = DiskLake(folder)
        self.folder = folder
        self._ledger = Ledger(self._lake, "q1", {})
        self.batch = 0

    def merged(self, rows: dict[int, str], upto: int, state: str = "running") -> None:
        """Run one batch of `films`: the table then has these rows; offsets below `upto` are merged."""
        write(self.folder, "films", rows)
        self.batch += 1
        row = LedgerRow(
            "q1",
            self.batch,
            "films",
            delta_version=int(self.silver("films").version()),
            offsets={TOPIC: {0: upto}},
            state=state,
            merged_at=WHEN + timedelta(seconds=self.batch),
        )
        self._ledger.append([row], self.batch)


def write(folder: Path, name: str, rows: dict[int, str], **more: list[str]) -> DeltaTable:
    data = pa.table(
        {
            "id": pa.array(rows, pa.int32()),
            "note": pa.array(list(rows.values()), pa.string()),
            "big": pa.nulls(len(rows), pa.string()),
            "_lsn": pa.array([1] * len(rows), pa.int64()),
            **more,
        }
    )
    path = folder / "silver" / name
    write_deltalake(path, data, mode="overwrite", schema_mode="overwrite")
    return DeltaTable(path)


@pytest.fixture
def lake(tmp_path: Path) -> LakeInFolder:
    lake = LakeInFolder(tmp_path)
    lake.merged({1: "a"}, 3)
    lake.merged({1: "a", 2: "b"}, 4)
    lake.merged({2: "later"}, 9)
    return lake


def proof_of(lake: LakeInFolder, built: DeltaTable, contract: Contract = KEYED) -> Proof:
    return prove(lake, "films", TOPIC, built, contract, CUT, scratch=lake.folder / "scratch")


def test_table_like_the_version_of_then_is_equal(lake: LakeInFolder) -> None:
    proof = proof_of(lake, write(lake.folder, "films_then", {2: "b", 1: "a"}))
    assert (proof.verdict, proof.by) == (EQUAL, "version 1 of the current table")


def test_rows_that_differ_from_the_version_of_then_are_named(lake: LakeInFolder) -> None:
    proof = proof_of(lake, write(lake.folder, "films_then", {1: "a", 2: "x", 3: "c"}))
    assert proof.verdict == DIFFERENT
    assert [(one.kind, one.key) for one in proof.differences] == [
        ("differs", "id=2"),
        ("extra", "id=3"),
    ]


def test_column_that_the_version_of_then_had_not_is_left_out_and_named(lake: LakeInFolder) -> None:
    newer = replace(
        KEYED, columns=(*KEYED.columns, Column("later", "text", "text", base_type="text"))
    )
    built = write(lake.folder, "films_then", {1: "a", 2: "b"}, later=["x", "y"])
    proof = proof_of(lake, built, newer)
    assert proof.verdict == EQUAL and "without later" in proof.by


def test_moment_within_a_batch_has_no_version(tmp_path: Path) -> None:
    lake = LakeInFolder(tmp_path)
    lake.merged({1: "a"}, 3)
    lake.merged({1: "a", 2: "b"}, 9)
    proof = proof_of(lake, write(tmp_path, "films_then", {1: "a"}))
    assert proof.verdict == NOT_PROVED and "no version of the current table" in proof.by


def test_version_that_is_not_kept_any_more_proves_nothing(lake: LakeInFolder) -> None:
    built = write(lake.folder, "films_then", {1: "a", 2: "b"})
    log = lake.folder / "silver" / "films" / "_delta_log"
    table = DeltaTable(lake.folder / "silver" / "films", version=1)
    for uri in table.file_uris():
        Path(uri.removeprefix("file://")).unlink()
    proof = proof_of(lake, built)
    assert proof.verdict == NOT_PROVED
    assert "version 1 of the current table had exactly these events, and is not kept" in proof.by
    shutil.rmtree(log)
    assert proof_of(lake, built).verdict == NOT_PROVED


def test_table_that_was_stopped_proves_nothing(tmp_path: Path) -> None:
    lake = LakeInFolder(tmp_path)
    lake.merged({1: "a", 2: "b"}, 4, state="stopped")
    assert proof_of(lake, write(tmp_path, "films_then", {1: "a", 2: "b"})).verdict == NOT_PROVED


@pytest.mark.parametrize(
    ("rows", "quarantined", "verdict"),
    [([("1", "a", None)], 0, EQUAL), ([], 0, DIFFERENT), ([], 1, NOT_PROVED)],
)
def test_replay_proves_a_table_unless_quarantine_may_explain_what_differs(
    tmp_path: Path, rows: list[tuple[str | None, ...]], quarantined: int, verdict: str
) -> None:
    built = write(tmp_path, "films_then", {1: "a"})
    proof = prove_by_replay(
        lambda: rows, built, KEYED, quarantined=quarantined, scratch=tmp_path / "scratch"
    )
    assert proof.verdict == verdict


def test_exit_code_is_that_of_the_worst_proof() -> None:
    equal, different, unknown = (Proof(v, "") for v in (EQUAL, DIFFERENT, NOT_PROVED))
    assert exit_code([equal, equal]) == 0
    assert exit_code([equal, unknown]) == 3
    assert exit_code([unknown, different]) == 1


def test_extra_table_is_found_by_its_moment_and_dropped_by_its_name(lake: LakeInFolder) -> None:
    tables, text = ExtraTables(lake), description("films", MOMENT)
    assert tables.find("films_then", text) is None
    made = tables.write("films_then", lake.silver("films", 1), text)
    assert made.to_pyarrow_table().num_rows == 2
    assert tables.find("films_then", text) is not None and tables.names() == ["films_then"]
    other = description("films", Moment(Lsn(200), Lsn(200), WHEN))
    with pytest.raises(HeadwaterError, match="the name `films_then` is taken"):
        tables.find("films_then", other)
    tables.drop("films_then")
    assert tables.names() == [] and not (lake.folder / "silver" / "films_then").exists()


@pytest.mark.parametrize("name", ["films", "none_such", "../silver/films", ""])
def test_only_an_extra_table_is_dropped(lake: LakeInFolder, name: str) -> None:
    with pytest.raises(HeadwaterError, match="there is no table"):
        ExtraTables(lake).drop(name)
    assert lake.silver("films").version() == 2


@pytest.mark.parametrize("name", ["films", "Films", "1films", "a/b", "a-b", ""])
def test_name_of_another_table_or_of_none_is_refused(lake: LakeInFolder, name: str) -> None:
    with pytest.raises(HeadwaterError, match=r"is taken|cannot be a table.s name"):
        ExtraTables(lake).find(name, description("films", MOMENT))

"""Small files are joined while merges go on: no row is lost, no merge is refused, no conflict is committed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_streaming.batch.upkeep.table_need import Steps
from spark_streaming.batch.upkeep.table_upkeep import drop_old, finish, maintain_table
from spark_streaming.fold.keyed import Folded
from spark_streaming.tables import joined_files
from spark_streaming.tables.data_files import DataFile
from spark_streaming.tables.engine_protocol import Commit
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.engines.delta_rs import DeltaRsEngine
from spark_streaming.tables.joined_files import JOIN_FILES_MIN, join_small_files, packed
from spark_streaming.tables.log_writer import LogWriter
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.support.disk_lake import DiskLake
from tests.support.folded import rows
from tests.unit.model import KEYED

COUNT = JOIN_FILES_MIN + 3


class Films:
    """A table with a file for each of its first merges, and what it must hold."""

    def __init__(self, folder: Path, options: TableOptions) -> None:
        self.table = SilverTable(DiskLake(folder), "films", KEYED, options)
        self.table.ensure()
        self.engine = ArrowEngine()
        self.folder = folder / self.table.path
        self.expected: dict[int, str] = {}
        for number in range(COUNT):
            DeltaRsEngine().merge(self.table, self._row(number, "old"), Commit("fill", number))

    def _row(self, number: int, note: str) -> Folded:
        self.expected[number] = note
        return Folded(rows(KEYED, {"id": number, "note": note}))

    def merge(self, number: int, note: str) -> None:
        with self.table.lock:
            commit = Commit("t", len(self.expected) * 100 + self.table.version())
            assert not self.engine.merge(self.table, self._row(number, note), commit).skipped

    def join(self) -> None:
        finish(maintain_table(self.table, Steps(join=True)))

    def rows(self) -> dict[int, str]:
        """The rows as another process reads them."""
        found = self.table.lake.table(self.table.path).to_pyarrow_table().to_pylist()
        assert len({row["id"] for row in found}) == len(found)
        return {row["id"]: row["note"] for row in found}

    def files(self) -> int:
        return len(self.table.lake.table(self.table.path).file_uris())


@pytest.fixture
def films(tmp_path: Path) -> Films:
    return Films(tmp_path, TableOptions(0))


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once the joined file is written, before it is committed."""
    write = LogWriter.write

    def writing(self: LogWriter, given: Any) -> Any:
        done = write(self, given)
        if threading.current_thread().name == "joins":
            monkeypatch.setattr(LogWriter, "write", write)
            act()
        return done

    monkeypatch.setattr(LogWriter, "write", writing)


def joins(films: Films) -> None:
    thread = threading.Thread(target=films.join, name="joins")
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_joined_files_have_the_same_rows_and_the_next_merge_knows_them(films: Films) -> None:
    films.merge(0, "again")  # the engine has the table in memory now
    films.join()
    assert films.files() == 1
    version, before = films.table.version(), films.table.live
    films.merge(1, "new")
    assert films.table.live is before, "the table in memory followed the commit"
    assert films.table.version() == version + 1
    assert films.rows() == films.expected


def test_a_merge_of_new_rows_meanwhile_is_kept_beside_the_joined_file(
    films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    during(monkeypatch, lambda: films.merge(100, "meanwhile"))
    joins(films)
    assert films.files() == 2
    films.merge(2, "new")
    assert films.rows() == films.expected


def test_a_merge_into_one_of_the_files_meanwhile_wins_and_nothing_is_joined(
    films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = set(films.folder.glob("*.parquet"))
    during(monkeypatch, lambda: films.merge(3, "meanwhile"))
    joins(films)
    assert films.files() == COUNT
    [merged] = set(films.folder.glob("*.parquet")) - there
    assert any(
        uri.endswith(merged.name) for uri in films.table.lake.table(films.table.path).file_uris()
    )
    assert films.rows() == films.expected
    films.join()
    films.merge(4, "new")
    assert films.rows() == films.expected


def test_somebody_elses_commit_at_the_last_moment_leaves_the_table_as_it_is(
    films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, lake = films.table, films.table.lake
    own = lake.table(table.path)

    @contextmanager
    def holding() -> Any:
        with table.lock:
            yield

    put = obstore.put

    def putting(store: Any, path: str, *content: Any, **options: Any) -> Any:
        if options.get("mode") == "create":
            monkeypatch.setattr(obstore, "put", put)
            lake.table(table.path).alter.set_table_properties(
                {"delta.logRetentionDuration": "interval 1 minutes"}
            )
        return put(store, path, *content, **options)

    monkeypatch.setattr(obstore, "put", putting)
    assert join_small_files(lake, table.path, own, holding(), table.joined) is None
    assert films.files() == COUNT
    assert films.rows() == films.expected


def test_a_join_whose_confirmation_was_lost_is_there_once(
    films: Films, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = obstore.put

    def put_twice(store: Any, path: str, *content: Any, **options: Any) -> None:
        put(store, path, *content, **options)
        if options.get("mode") == "create":
            monkeypatch.setattr(obstore, "put", put)
            put(store, path, *content, **options)  # as a client does that had no answer

    monkeypatch.setattr(obstore, "put", put_twice)
    version = films.table.version()
    films.join()
    assert films.files() == 1
    films.merge(6, "new")
    assert films.table.version() == version + 2
    assert films.rows() == films.expected


def test_the_log_calls_it_an_optimisation_that_changes_no_data(films: Films) -> None:
    films.join()
    table = films.table.lake.table(films.table.path)
    assert table.history(1)[0]["operation"] == "OPTIMIZE"
    entry = Path(table.table_uri.removeprefix("file://")) / f"_delta_log/{table.version():020}.json"
    assert '"dataChange":true' not in entry.read_text()


def test_a_table_with_a_change_data_feed_is_joined_and_records_no_change(tmp_path: Path) -> None:
    films = Films(tmp_path, TableOptions(0, change_data_feed="*"))
    films.join()
    assert films.files() == 1
    version = films.table.version()
    reader = films.table.lake.table(films.table.path).load_cdf(
        starting_version=version, ending_version=version
    )
    assert sum(batch.num_rows for batch in reader) == 0
    assert films.rows() == films.expected


def test_a_quiet_table_has_one_checkpoint_and_the_newest_versions_files(films: Films) -> None:
    films.join()
    table = films.table
    for _ in range(2):
        drop_old(table.lake, table.path, table.lock, table.handle)
    folder = Path(table.lake.url(table.path))
    assert len(list(folder.glob("*.parquet"))) == films.files() == 1
    version = f"{table.version():020}"
    assert {path.name for path in (folder / "_delta_log").iterdir() if path.is_file()} == {
        f"{version}.json", f"{version}.checkpoint.parquet", "_last_checkpoint",
    }  # fmt: skip
    films.merge(5, "awake")
    assert films.rows() == films.expected


def test_far_times_of_a_file_that_spark_wrote_are_read_as_they_are(tmp_path: Path) -> None:
    times = pa.array([datetime(9999, 12, 31), datetime(2300, 1, 2)], pa.timestamp("us"))
    (tmp_path / "t").mkdir()
    pq.write_table(
        pa.table({"at": times}), tmp_path / "t/a.parquet", use_deprecated_int96_timestamps=True
    )
    assert (
        LogWriter(DiskLake(tmp_path), "t", 0).read("a.parquet")["at"].to_pylist()
        == times.to_pylist()
    )


def test_parts_stay_within_a_file_and_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_files, "TARGET_FILE_BYTES", 10)
    monkeypatch.setattr(joined_files, "JOIN_BYTES_MAX", 25)
    files = [DataFile(str(number), size) for number, size in enumerate((4, 4, 4, 9, 1, 2, 2))]
    assert [[file.path for file in part] for part in packed(files)] == [["0", "1"], ["3", "4"]]

"""Small merges in memory: which files are read and written, what the log says, and what delta-rs merges instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.fold.keyed import Folded
from spark_streaming.tables.data_files import DataFile, RowCache
from spark_streaming.tables.delta_commit import statistics
from spark_streaming.tables.engine_protocol import Commit, MergeEngine
from spark_streaming.tables.engines.arrow_merge import ROWS_MAX, ArrowEngine
from spark_streaming.tables.engines.delta_rs import DeltaRsEngine
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.support.disk_lake import DiskLake
from tests.support.folded import rows
from tests.unit.model import BAG, KEYED

MakeTable = Callable[..., SilverTable]


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    def make(contract: Contract = KEYED, **options: Any) -> SilverTable:
        table = SilverTable(DiskLake(tmp_path), contract.table, contract, TableOptions(**options))
        table.ensure()
        return table

    return make


def film(number: int, note: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "note": note, **more}


def upsert(*films: dict[str, Any]) -> Folded:
    return Folded(rows(KEYED, *films))


def notes(table: SilverTable) -> dict[int, str]:
    """The rows as another process reads them."""
    found = table.lake.table(table.path).to_pyarrow_table(columns=["id", "note"]).to_pylist()
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row["note"] for row in found}


def in_files(table: SilverTable, *parts: range) -> None:
    """Fill a table: each part in a file of its own."""
    for number, ids in enumerate(parts):
        DeltaRsEngine().merge(table, upsert(*(film(i, "old") for i in ids)), Commit("fill", number))


def names(table: SilverTable) -> set[str]:
    return set(table.lake.table(table.path).get_add_actions()["path"].to_pylist())


def test_a_file_without_a_row_of_the_batch_stays(make_table: MakeTable) -> None:
    table = make_table()
    in_files(table, range(10), range(10, 20), range(20, 30))
    before = names(table)
    result = ArrowEngine().merge(table, upsert(film(15, "new")), Commit("t", 1))
    assert (result.engine, result.updated, result.inserted) == ("arrow", 1, 0)
    assert len(before & names(table)) == 2
    assert notes(table) == {i: "new" if i == 15 else "old" for i in range(30)}


def test_a_file_within_whose_range_no_row_is_stays(make_table: MakeTable) -> None:
    table = make_table()
    in_files(table, range(0, 20, 2))
    before = names(table)
    result = ArrowEngine().merge(table, upsert(film(3, "new")), Commit("t", 1))
    assert (result.inserted, before <= names(table)) == (1, True)


def test_new_rows_join_a_small_file_that_is_rewritten_anyhow(make_table: MakeTable) -> None:
    table = make_table()
    in_files(table, range(10))
    ArrowEngine().merge(table, upsert(film(1, "new"), film(99, "new")), Commit("t", 1))
    assert len(names(table)) == 1


def test_a_file_whose_rows_are_all_deleted_goes(make_table: MakeTable) -> None:
    table = make_table()
    in_files(table, range(2), range(2, 4))
    gone = [film(i, _op="d") for i in range(2)]
    result = ArrowEngine().merge(table, upsert(*gone), Commit("t", 1))
    assert (result.deleted, len(names(table)), set(notes(table))) == (2, 1, {2, 3})


def test_a_merge_without_effect_is_recorded_like_any_other(make_table: MakeTable) -> None:
    table = make_table()
    in_files(table, range(2))
    before = names(table)
    engine = ArrowEngine()
    result = engine.merge(table, upsert(film(7, _op="d")), Commit("t", 1))
    assert (result.deleted, names(table)) == (0, before)
    table.forget()
    assert engine.merge(table, upsert(film(7, _op="d")), Commit("t", 1)).skipped


@pytest.mark.parametrize(
    ("contract", "folded", "options"),
    [
        (BAG, Folded(rows(BAG, film(1, "a", _op="i"))), {}),
        (KEYED, Folded(rows(KEYED, film(1, "a")), truncate_lsn=Lsn(5)), {}),
        (KEYED, upsert(*(film(i) for i in range(ROWS_MAX + 1))), {}),
        (KEYED, upsert(film(1)), {"change_data_feed": "*"}),
    ],
    ids=["without a key", "truncated", "many rows", "with a change data feed"],
)
def test_delta_rs_merges_what_is_not_small_and_plain(
    make_table: MakeTable, contract: Contract, folded: Folded, options: dict[str, Any]
) -> None:
    table = make_table(contract, **options)
    assert ArrowEngine().merge(table, folded, Commit("t", 1)).engine == "delta-rs"


def test_merges_of_both_engines_by_turns_leave_the_rows_of_a_model(
    make_table: MakeTable, seed: int
) -> None:
    random, table, model = Random(seed), make_table(), dict[int, str]()
    engines: list[MergeEngine] = [ArrowEngine(), DeltaRsEngine()]
    for version in range(60):
        batch = []
        for number in random.sample(range(40), random.randint(1, 8)):
            note, is_delete = f"{version}", random.random() < 0.3
            batch.append(film(number, note, _op="d" if is_delete else "u", _lsn=version))
            model.pop(number, None) if is_delete else model.update({number: note})
        random.choice(engines).merge(table, upsert(*batch), Commit("t", version))
        if random.random() < 0.2:
            table.handle().optimize.compact() if random.random() < 0.5 else table.forget()
        assert table.version() == table.lake.table(table.path).version()
    assert notes(table) == model


def test_another_writers_commit_is_not_overwritten_and_the_next_try_sees_it(
    make_table: MakeTable,
) -> None:
    table, engine = make_table(), ArrowEngine()
    in_files(table, range(3))
    engine.merge(table, upsert(film(0, "mine")), Commit("t", 1))
    other = SilverTable(table.lake, table.name, KEYED, TableOptions())
    DeltaRsEngine().merge(other, upsert(film(1, "theirs")), Commit("theirs", 1))
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        engine.merge(table, upsert(film(2, "mine")), Commit("t", 2))
    engine.merge(table, upsert(film(2, "mine")), Commit("t", 2))
    assert notes(table) == {0: "mine", 1: "theirs", 2: "mine"}


def test_a_commit_whose_confirmation_was_lost_is_not_repeated(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, engine, put = make_table(), ArrowEngine(), obstore.put
    engine.merge(table, upsert(film(0, "a")), Commit("t", 1))

    def put_and_fail(store: Any, path: str, *content: Any, **options: Any) -> None:
        put(store, path, *content, **options)
        if path.startswith("_delta_log/"):
            raise OSError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "put", put_and_fail)
        with pytest.raises(OSError, match="no answer"):
            engine.merge(table, upsert(film(0, "b")), Commit("t", 2))
    assert engine.merge(table, upsert(film(0, "b")), Commit("t", 2)).skipped
    assert notes(table) == {0: "b"}


def test_columns_that_are_in_silver_only_keep_their_values(make_table: MakeTable) -> None:
    table = make_table()
    ArrowEngine().merge(table, upsert(film(1, "a", big="kept"), film(2, "b")), Commit("t", 1))
    table.contract = replace(KEYED, columns=KEYED.columns[:2])
    change = Folded(rows(table.contract, film(1, "c"), film(3, "d")))
    assert ArrowEngine().merge(table, change, Commit("t", 2)).engine == "arrow"
    found = table.lake.table(table.path).to_pyarrow_table().to_pylist()
    assert {row["id"]: (row["note"], row["big"]) for row in found} == {
        1: ("c", "kept"),
        2: ("b", None),
        3: ("d", None),
    }


PAIR = Contract(
    "public",
    "pairs",
    (
        Column("a", "text", "text", False, base_type="text"),
        Column("b", "int8", "int64", False, base_type="int8"),
        Column("v", "text", "text", base_type="text"),
    ),
    key=("a", "b"),
)


def test_a_key_of_two_columns_is_compared_as_a_whole(make_table: MakeTable) -> None:
    table, engine = make_table(PAIR), ArrowEngine()
    first = rows(PAIR, *({"a": a, "b": b, "v": "old"} for a in "xy" for b in (1, 2)))
    engine.merge(table, Folded(first), Commit("t", 1))
    change = rows(PAIR, {"a": "x", "b": 2, "v": "new"}, {"a": "y", "b": 1, "_op": "d"})
    result = engine.merge(table, Folded(change), Commit("t", 2))
    found = table.lake.table(table.path).to_pyarrow_table().to_pylist()
    assert (result.updated, result.deleted) == (1, 1)
    assert {(row["a"], row["b"]): row["v"] for row in found} == {
        ("x", 1): "old",
        ("x", 2): "new",
        ("y", 2): "old",
    }


AT = datetime(2026, 11, 25, 4, 0, 0, 123_456, tzinfo=timezone.utc)


def test_statistics_are_what_the_protocol_says_of_each_type() -> None:
    given = pa.table(
        {
            "n": pa.array([3, None, -1], pa.int64()),
            "x": pa.array([1.5, None, 0.5]),
            "nan": pa.array([1.0, float("nan"), 2.0]),
            "d": pa.array([Decimal("1.10"), Decimal("20.00"), None], pa.decimal128(30, 2)),
            "day": pa.array([date(2026, 1, 2), None, date(2026, 1, 1)]),
            "at": pa.array([AT, None, None], pa.timestamp("us", "UTC")),
            "text": pa.array(["b", "a" * 70, "a"]),
            "long": pa.array(["z" * 70, "y", None]),
            "none": pa.nulls(3, pa.string()),
            "list": pa.array([[1], None, []], pa.list_(pa.int64())),
            "flag": pa.array([True, None, False]),
            "bytes": pa.array([b"a", b"b", None]),
        }
    )
    found = statistics(given)
    assert found["numRecords"] == 3
    assert found["minValues"] == {
        "n": -1,
        "x": 0.5,
        "d": Decimal("1.10"),
        "day": date(2026, 1, 1),
        "at": "2026-11-25T04:00:00.123Z",
        "text": "a",
        "long": "y",
    }
    assert found["maxValues"] == {
        "n": 3,
        "x": 1.5,
        "d": Decimal("20.00"),
        "day": date(2026, 1, 2),
        "at": "2026-11-25T04:00:00.124Z",
        "text": "b",
    }
    assert found["nullCount"] == {
        "n": 1, "x": 1, "nan": 0, "d": 1, "day": 1, "at": 2, "text": 0, "long": 1, "none": 3,
        "flag": 1, "bytes": 1,
    }  # fmt: skip


def test_values_beyond_the_year_9999_have_no_statistics() -> None:
    far = pa.array([2**40], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    given = pa.table({"at": far, "n": [1]})
    assert set(statistics(given)["minValues"]) == {"n"}


def test_a_file_may_hold_a_key_only_within_its_ranges() -> None:
    file = DataFile("f", 1, {"a": (10, 20)})
    assert [file.may_hold({"a": [key]}) for key in (9, 10, 20, 21)] == [False, True, True, False]
    assert not file.may_hold({"a": [1, 30]})
    assert file.may_hold({"a": [1, 15, 30]})
    assert file.may_hold({"b": [1]})


def test_the_cache_keeps_the_rows_used_last_within_its_room() -> None:
    some = pa.table({"n": pa.array(range(100), pa.int64())})
    cache = RowCache(3 * some.nbytes)
    for name in ("a", "b", "c"):
        cache.put(name, some)
    assert cache.get("a") is some
    cache.put("d", some)
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    cache.put("large", pa.concat_tables([some, some]))
    assert cache.get("large") is None
    cache.drop("c")
    assert cache.get("c") is None


def test_a_checkpoint_of_such_commits_says_the_same(make_table: MakeTable) -> None:
    table, engine = make_table(), ArrowEngine()
    for version in range(5):
        engine.merge(table, upsert(film(version % 3, f"{version}")), Commit("t", version))
    table.handle().create_checkpoint()
    opened = DeltaTable(table.lake.url(table.path))
    assert opened.transaction_version("t") == 4
    stored = pa.table(opened.get_add_actions(flatten=True))
    assert pc.min(stored["min.id"]).as_py() == 0
    assert notes(table) == {0: "3", 1: "4", 2: "2"}


def test_an_entry_below_the_last_checkpoint_is_seen_by_no_reader(make_table: MakeTable) -> None:
    paused, engine = make_table(), ArrowEngine()
    engine.merge(paused, upsert(film(0, "old")), Commit("t", 1))
    other = SilverTable(paused.lake, paused.name, KEYED, TableOptions())
    for version in range(2, 6):
        engine.merge(other, upsert(film(0, f"{version}")), Commit("t", version))
    other.handle().create_checkpoint()
    log = Path(paused.lake.url(paused.path)) / "_delta_log"
    for entry in sorted(log.glob("*.json"))[:-1]:  # as a clean-up does after the retention
        entry.unlink()
    engine.merge(paused, upsert(film(0, "late"), film(1, "late")), Commit("t", 2))
    assert (paused.version(), other.version()) == (2, 5)
    assert notes(other) == {0: "5"}

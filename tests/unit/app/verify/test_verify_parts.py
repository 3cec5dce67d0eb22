"""The pure parts of verify: silver's texts, predictions, progress, state, messages."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from app.compare.compare import Comparison, Difference
from app.compare.prediction import Prediction
from app.compare.ranges import KeyOrder, KeyRange
from app.compare.silver_rows import BATCH_BYTES, SilverRows, batch_rows
from app.verify.verdict import VALUE_SHOWN, Verdict, difference_text, shown
from app.verify.verify_progress import Progress
from app.verify.verify_state import RESUMED_AGE_S_MAX, Part, RunState, StateFile, TableState
from spark_streaming.contract.canonical import column_texts, silver_texts
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.envelope import HighWater

UTC = datetime.timezone.utc
ID = Column("id", "integer", "int32", nullable=False, base_type="int4")
NOTE = Column("note", "text", "text", base_type="text")
LATE = Column("late", "text", "text", base_type="text")
TABLE = Contract("public", "t", (ID, NOTE), ("id",))
SCALARS = {
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "bool": st.booleans(),
    "float64": st.floats(),
    "text": st.text(),
    "bytes": st.binary(),
    "timestamp": st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 1, 1)),
    "timestamptz": st.datetimes(
        datetime.datetime(1, 1, 2), datetime.datetime(9999, 1, 1), timezones=st.just(UTC)
    ),
    "date": st.dates(),
    "float32": st.floats(width=32),
    "decimal": st.decimals(
        allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20
    ),
}


@pytest.mark.parametrize("kind", SCALARS)
@given(data=st.data())
def test_a_column_has_the_texts_of_its_values(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | SCALARS[kind]))
    column = Column("c", "?", kind, precision=38 if kind == "decimal" else None, scale=9)
    [text] = silver_texts(Contract("public", "t", (column,), ()))
    found = column_texts(pa.array(values, column.arrow_type), column)
    assert found == [None if value is None else text(value) for value in values]


def table_of(path: Path, rows: list[tuple[int, str | None, int]]) -> DeltaTable:
    """A silver table of (id, note, _lsn)."""
    columns = list(zip(*rows, strict=True))
    schema = pa.schema([("id", pa.int32()), ("note", pa.string()), ("_lsn", pa.int64())])
    write_deltalake(
        path, pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)
    )
    return DeltaTable(path)


def test_rows_are_read_by_range_of_the_key_and_by_lsn(tmp_path: Path) -> None:
    silver = SilverRows(table_of(tmp_path, [(i, f"n{i}", i * 10) for i in range(100)]), TABLE)
    assert silver.rows == 100
    order = KeyOrder(TABLE, ID)
    condition = order.silver_filter([KeyRange("5", "8"), KeyRange("97", None)])
    assert [row[0] for row in silver.texts(condition)] == ["5", "6", "7", "97", "98", "99"]
    assert [row[0] for row in silver.texts(condition, lsn_min=Lsn(971))] == ["98", "99"]


def test_a_column_that_silver_does_not_have_yet_is_null(tmp_path: Path) -> None:
    contract = Contract("public", "t", (ID, LATE, NOTE), ("id",))
    silver = SilverRows(table_of(tmp_path, [(1, "a", 1)]), contract)
    assert list(silver.texts()) == [("1", None, "a")]
    assert list(silver.values()) == [{"id": 1, "late": None, "note": "a"}]


def test_a_table_that_is_not_there_has_no_rows() -> None:
    silver = SilverRows(None, TABLE)
    assert list(silver.texts()) == [] and silver.rows == 0
    assert list(Prediction(TABLE, silver, [], HighWater()).rows()) == []


def test_wide_rows_are_read_a_few_at_a_time() -> None:
    assert batch_rows(1_000, 100, 10_000) == 10_000
    assert batch_rows(20 << 20, 1, 10_000) == 16
    narrow = batch_rows(100 << 20, 1 << 20, 1 << 30)
    assert narrow * 400 == pytest.approx(BATCH_BYTES, rel=0.01)


def test_progress_tells_share_rate_and_time_left() -> None:
    now = [0.0]
    said: list[str] = []
    progress = Progress(said.append, lambda: now[0])
    progress.expect("films", 20_000)
    rows = progress.counted("films", range(10_000))
    for number in rows:
        now[0] = number / 1_000
    assert "films: 10,000 rows" in said[-1]
    assert "50 %" in said[-1] and "about 10 s left" in said[-1]


def test_progress_without_an_estimate_tells_no_end() -> None:
    said: list[str] = []
    progress = Progress(said.append, lambda: 0.0)
    assert list(progress.counted("films", range(3))) == [0, 1, 2]
    assert "left" not in said[-1] and "3 rows" in said[-1]


STATE = RunState(
    tables=["t"],
    done={
        "t": TableState(
            oid=1,
            table_id="x",
            ranges=[(None, "5"), ("5", None)],
            equal=[Part(low="5", rows=9, lsn=7)],
        )
    },
)


def test_an_interrupted_run_is_read_back(tmp_path: Path) -> None:
    with StateFile(tmp_path, lambda: 5.0) as kept:
        assert kept.load() is None
        kept.save(STATE)
    with StateFile(tmp_path, lambda: 6.0) as again:
        found = again.load()
        assert found is not None and found.done == STATE.done
        again.forget()
        assert again.load() is None


def test_a_run_of_long_ago_is_not_gone_on_with(tmp_path: Path) -> None:
    with StateFile(tmp_path, lambda: 0.0) as kept:
        kept.save(STATE)
    assert StateFile(tmp_path, lambda: RESUMED_AGE_S_MAX + 1).load() is None


def test_a_second_run_leaves_the_first_ones_state_alone(tmp_path: Path) -> None:
    with StateFile(tmp_path) as first, StateFile(tmp_path) as second:
        first.save(STATE)
        second.save(RunState(tables=["other"]))
        second.forget()
        found = first.load()
    assert found is not None and found.tables == ["t"]


def test_a_state_file_that_is_none_is_passed_over(tmp_path: Path) -> None:
    with StateFile(tmp_path) as kept:
        (tmp_path / "verify" / "state.json").write_text("{")
        assert kept.load() is None


def test_a_difference_is_told_with_each_column_and_both_values() -> None:
    difference = Difference("differs", "id=1", (("a", "x", None), ("b", "1", "2")))
    assert difference_text(difference) == (
        "differs: id=1: a is 'x' in the source, None in silver; b is '1' in the source, '2' in silver"
    )
    assert difference_text(Difference("missing", "id=1")) == "missing: id=1"


@given(st.text(max_size=300), st.text(max_size=300))
def test_two_different_values_are_shown_differently_and_in_short(a: str, b: str) -> None:
    common = "c" * 500
    ours, theirs = shown(common + a + "1" + b, common + a + "2" + b)
    assert ours != theirs
    assert len(ours) < 12 * VALUE_SHOWN


def test_a_verdict_is_green_only_if_it_is_equal_and_not_refused() -> None:
    assert Verdict("t").word == "equal" and Verdict("t").equal
    assert Verdict("t", refused="no key").word == "refused"
    broken = Verdict("t", comparison=Comparison(at_least=True))
    assert broken.word == "differs" and not broken.equal
    assert any("too many rows differ to count them all" in line for line in broken.messages())

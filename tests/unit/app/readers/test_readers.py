"""The readers of silver: their output, and where they continue."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from app.errors import HeadwaterError
from app.readers.deltalake_reader import DeltaRsTable
from app.readers.follow import VERSIONS_AT_ONCE, Progress, follow
from app.readers.reader_lines import Change, State, plain, row_text
from app.readers.reader_options import Options, parse
from spark_streaming.storage.change_feed import set_feed, wants_feed
from spark_streaming.storage.store_address import ObjectStore

NO_STORE = ObjectStore()


class Model:
    """A table in memory: version → its changes; the newest rows are those of `rows_now`."""

    def __init__(self, versions: dict[int, list[str]], rows_now: list[str]) -> None:
        self.versions, self.rows_now = versions, rows_now

    def newest(self) -> int:
        return max(self.versions)

    def rows(self, version: int) -> Iterator[Change]:
        for row in self.rows_now:
            yield Change(version, 0, "read", json.dumps(row))

    def changes(self, first: int, last: int) -> Iterator[Change]:
        for version in range(first, last + 1):
            for row in self.versions[version]:
                yield Change(version, 0, "insert", json.dumps(row))


def options(**given: Any) -> Options:
    known: dict[str, Any] = {
        "table": "s3://lake/silver/t",
        "first": None,
        "state": None,
        "seconds": 0.0,
        "rows_max": 1_000,
        "store": NO_STORE,
    }
    return Options(**{**known, **given})


def ran(table: Model, **given: Any) -> tuple[list[tuple[int, str, Any]], Progress]:
    """(version, change, row) of each line, and the run's log."""
    out = io.StringIO()
    told = follow(table, options(**given), out, threading.Event())
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return [(line["version"], line["change"], line["row"]) for line in lines], told


def test_a_reader_begins_with_the_rows_and_goes_on_behind_its_state(tmp_path: Path) -> None:
    state, table = tmp_path / "state", Model({0: [], 1: ["a"]}, ["a"])
    assert ran(table, state=state)[0] == [(1, "read", "a")]
    assert state.read_text() == "1 s3://lake/silver/t\n"
    assert ran(table, state=state)[0] == []
    table.versions |= {2: ["b", "c"], 3: ["d"]}
    assert ran(table, state=state)[0] == [
        (2, "insert", "b"),
        (2, "insert", "c"),
        (3, "insert", "d"),
    ]
    assert ran(table, state=state)[0] == []
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_version_that_is_asked_for_goes_before_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    State(state, "s3://lake/silver/t").keep(2)
    table = Model({1: ["a"], 2: ["b"]}, [])
    assert ran(table, state=state, first=1)[0] == [(1, "insert", "a"), (2, "insert", "b")]


def test_a_run_ends_at_a_versions_end_and_the_next_one_misses_nothing(tmp_path: Path) -> None:
    versions = {n: [f"{n}.{i}" for i in range(n % 4)] for n in range(3 * VERSIONS_AT_ONCE)}
    table, state = Model(versions, []), tmp_path / "state"
    seen: list[tuple[int, str, Any]] = []
    runs = 0
    State(state, "s3://lake/silver/t").keep(0)
    while True:
        lines, told = ran(table, state=state, rows_max=5)
        assert len(lines) <= 5 - 1 + 3
        seen, runs = seen + lines, runs + 1
        if told.version == table.newest() or not lines:
            break
    assert seen == [(n, "insert", row) for n, rows in versions.items() for row in rows]
    assert runs > 10


def test_rows_that_are_cut_are_no_state_to_go_on_from(tmp_path: Path) -> None:
    table, state = Model({4: []}, ["a", "b", "c"]), tmp_path / "state"
    lines, told = ran(table, rows_max=2)
    assert (len(lines), told.version) == (2, None)
    with pytest.raises(HeadwaterError, match="more than 2 rows") as raised:
        ran(table, rows_max=2, state=state)
    assert "--rows-max" in raised.value.hint and not state.exists()


def test_a_state_ahead_of_its_table_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    State(tmp_path / "state", "s3://lake/silver/t").keep(41)
    with pytest.raises(HeadwaterError, match="has no version 42") as raised:
        ran(Model({3: []}, []), state=tmp_path / "state")
    assert "newest one is 3" in raised.value.detail and "made again" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [("7 s3://lake/silver/other\n", "is the state of s3://lake/silver/other"), ("", "not a")],
)
def test_a_state_that_is_not_this_tables_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "state").write_text(text)
    with pytest.raises(HeadwaterError, match=told):
        State(tmp_path / "state", "s3://lake/silver/t").next()


def test_a_reader_that_is_told_to_stop_keeps_what_it_printed(tmp_path: Path) -> None:
    stop = threading.Event()

    class Stopping(Model):
        def changes(self, first: int, last: int) -> Iterator[Change]:
            yield from super().changes(first, last)
            stop.set()

    versions = {n: ["a"] for n in range(2 * VERSIONS_AT_ONCE)}
    given = options(first=0, state=tmp_path / "state", seconds=3_600.0)
    told = follow(Stopping(versions, []), given, io.StringIO(), stop)
    assert told == Progress(VERSIONS_AT_ONCE, VERSIONS_AT_ONCE - 1)
    assert State(tmp_path / "state", given.table).next() == VERSIONS_AT_ONCE


def test_a_reader_waits_for_newer_versions_until_its_time_is_over() -> None:
    table, now = Model({1: ["a"]}, []), [0.0]

    def clock() -> float:
        now[0] += 0.5
        table.versions.setdefault(len(table.versions) + 1, ["b"])
        return now[0]

    out = io.StringIO()
    follow(table, options(first=1, seconds=2.0), out, _Impatient(), clock)
    assert len(out.getvalue().splitlines()) == len(table.versions) - 1 >= 3


class _Impatient(threading.Event):
    """Returns at once, because the test's clock sets the time."""

    def wait(self, timeout: float | None = None) -> bool:
        return False


def test_values_that_json_has_no_type_for_are_text() -> None:
    zone = timezone(timedelta(hours=2))
    row = {
        "decimal": Decimal("1E+3"),
        "nan": [float("nan"), float("inf"), float("-inf"), 0.5],
        "bytes": b"\x00\xff",
        "date": date(1, 2, 3),
        "zoned": datetime(2026, 11, 22, 1, 2, 3, 4, zone),
        "plain": datetime(2026, 11, 22, 1, 2, 3),
        "none": None,
        "text": 'a "quoted"\nline ü',
    }
    assert json.loads(row_text(row)) == {
        "decimal": "1000",
        "nan": ["NaN", "Infinity", "-Infinity", 0.5],
        "bytes": "AP8=",
        "date": "0001-02-03",
        "zoned": "2026-11-21T23:02:03.000004Z",
        "plain": "2026-11-22T01:02:03.000000",
        "none": None,
        "text": 'a "quoted"\nline ü',
    }
    assert plain([[b""]]) == [[""]]
    assert '"timestamp": null,' in Change(7, None, "read", "{}").line()
    change = Change(7, 1_795_322_784_234, "insert", "{}")
    assert change.line() == (
        '{"version": 7, "timestamp": "2026-11-22T04:46:24.234Z", "change": "insert", "row": {}}'
    )


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("orders", "s3://b/silver/orders"),
        ("ünï__täble", "s3://b/silver/ünï__täble"),
        ("s3://other/place/", "s3://other/place"),
    ],
)
def test_a_table_is_named_as_silver_names_it_or_by_its_address(given: str, address: str) -> None:
    assert parse("t", [given], {"HEADWATER_LAKE_BUCKET": "b"}).table == address


def test_one_key_of_two_is_refused_and_neither_is_shown() -> None:
    with pytest.raises(HeadwaterError, match="HEADWATER_S3_SECRET_KEY is not set"):
        parse("t", ["orders"], {"HEADWATER_S3_ACCESS_KEY": "k"})
    both = {"HEADWATER_S3_ACCESS_KEY": "key1", "HEADWATER_S3_SECRET_KEY": "key2"}
    assert "key" not in repr(parse("t", ["orders"], both).store).replace("access_key", "")


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "--from", "-1"], ["a", "--from", "x"]])
def test_wrong_usage_ends_with_exit_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse("t", words, {})
    assert raised.value.code == 2


# -- delta-rs, on this disk


def made(folder: Path, *, feed: bool) -> DeltaTable:
    """A table with two versions after its creation: an append and a delete."""
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    configuration = {"delta.enableChangeDataFeed": "true"} if feed else {}
    table = DeltaTable.create(str(folder), schema=schema, configuration=configuration)
    write_deltalake(table, pa.table({"id": [1, 2], "text": ["a", None]}, schema), mode="append")
    table.delete("id = 1")
    return table


def printed(folder: Path, first: int) -> list[tuple[int, str, Any]]:
    table = DeltaRsTable(str(folder), NO_STORE)
    changes = [json.loads(c.line()) for c in table.changes(first, table.newest())]
    return [(c["version"], c["change"], c["row"]) for c in changes]


def test_delta_rs_reads_the_changes_that_were_written(tmp_path: Path) -> None:
    table = made(tmp_path, feed=True)
    assert sorted(printed(tmp_path, 0), key=str) == [
        (1, "insert", {"id": 1, "text": "a"}),
        (1, "insert", {"id": 2, "text": None}),
        (2, "delete", {"id": 1, "text": "a"}),
    ]
    more = pa.table({"id": [3], "text": ["c"]}, pa.schema(table.schema().to_arrow()))
    write_deltalake(table, more, mode="append")
    table.optimize.compact()
    assert table.version() == 4
    assert printed(tmp_path, 3) == [(3, "insert", {"id": 3, "text": "c"})]


def test_a_table_without_a_feed_is_told_with_what_switches_it_on(tmp_path: Path) -> None:
    table = made(tmp_path / "orders", feed=False)
    with pytest.raises(HeadwaterError, match="no change data feed at version 1") as raised:
        printed(tmp_path / "orders", 1)
    assert 'change_data_feed = "orders"' in raised.value.hint
    set_feed(table, "orders", True)
    table.delete("id = 2")
    assert printed(tmp_path / "orders", 3) == [(4, "delete", {"id": 2, "text": None})]
    with pytest.raises(HeadwaterError, match="no change data feed at version 2"):
        printed(tmp_path / "orders", 2)
    set_feed(table, "orders", False)
    with pytest.raises(HeadwaterError, match="no change data feed at version 5"):
        printed(tmp_path / "orders", 4)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="there is no Delta table at"):
        DeltaRsTable(str(tmp_path / "none"), NO_STORE)
    made(tmp_path / "t", feed=True)
    (tmp_path / "t" / "_delta_log" / f"{1:020}.json").rename(tmp_path / "gone")
    with pytest.raises(HeadwaterError, match=r"cannot open|version 1 is not there"):
        printed(tmp_path / "t", 1)


def test_a_feed_is_set_only_where_it_is_not_so_already(tmp_path: Path) -> None:
    table = made(tmp_path, feed=False)
    for wanted, version in ((False, 2), (True, 3), (True, 3), (False, 4), (False, 4)):
        set_feed(table, "t", wanted)
        assert table.version() == version


def test_a_setting_names_tables_or_all() -> None:
    assert wants_feed("orders, ratings", "ratings")
    assert not wants_feed("orders,ratings", "rating")
    assert not wants_feed("", "orders")
    assert wants_feed("*", "orders")

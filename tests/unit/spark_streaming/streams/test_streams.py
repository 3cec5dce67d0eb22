"""Streams: their contracts, valid events, and the table with each key once."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.names import parse_topic, stream_mark
from spark_streaming.contract.table_share import TableShare
from spark_streaming.events.event import RawEvent
from spark_streaming.streams.idempotency_keys import KeyIndex
from spark_streaming.streams.stream_contract import (
    SHIPPED,
    Stream,
    StreamContract,
    is_stream_topic,
    read_stream,
    read_streams,
    stream_folders,
)
from spark_streaming.streams.stream_event import EVENT_BYTES_MAX, Event, Judge, Refused, encode
from spark_streaming.streams.stream_table import JOIN_FILES_MIN, StreamError, StreamTable
from tests.support.disk_lake import DiskLake

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
TOPIC = "hw.stream-shop"


def stream(retention_days: int = 7, max_mb: int = 64, **columns: Any) -> Stream:
    given = columns or {
        "title": {"type": "text", "not_null": True, "max_length": 10},
        "count": {"type": "int64"},
        "price": {"type": "float64"},
        "good": {"type": "bool"},
        "at": {"type": "timestamptz"},
        "on": {"type": "date"},
        "id": {"type": "uuid"},
        "more": {"type": "json"},
    }
    content = {"retention_days": retention_days, "max_mb": max_mb, "columns": given}
    return Stream("shop", StreamContract.model_validate(content))


def raw(offset: int, key: str, time: dt.datetime, data: Any, partition: int = 0) -> RawEvent:
    value = orjson.dumps({"time": time.isoformat(), "data": data})
    stamp = int(NOW.timestamp() * 1000)
    return RawEvent(TOPIC, partition, offset, stamp, key.encode(), value, [])


def events(keys: list[str], time: dt.datetime = NOW, start: int = 0) -> list[Event]:
    judge = Judge(stream())
    return [judge.decode(raw(start + n, key, time, {"title": key})) for n, key in enumerate(keys)]


def keys_in(table: StreamTable) -> list[str]:
    found = table.ensure().to_pyarrow_dataset().to_table(columns=["event_key"])
    return sorted(found["event_key"].to_pylist())


# -- contracts and topics


def test_the_shipped_streams_are_right_and_the_demos_count_for_the_demo_only() -> None:
    streams, problems = read_streams(stream_folders(str(SHIPPED)))
    assert problems == []
    assert set(streams) == {"app_logs", "app_runs", "rating_events"}
    assert set(read_streams(stream_folders(""))[0]) == {"app_logs", "app_runs"}


def test_a_streams_topic_is_bronzes_and_no_tables() -> None:
    import re

    topic = stream().topic("hw")
    assert is_stream_topic(topic, "hw")
    assert parse_topic(topic, "hw") is None
    assert re.fullmatch(TableShare().topic_pattern("hw"), topic) is None
    assert re.fullmatch(r"hw\..+", topic)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("retention_days = 1\n", 1, "`columns` is missing"),
        ("retention_days = 0\n[columns.a]\ntype = 'text'", 1, "greater than or equal to 1"),
        ("retention_days = 1\n[columns.a]\ntyp = 'text'", 3, "unknown key `columns.a.typ`"),
        ("retention_days = 1\n[columns.day]\ntype = 'date'", 2, "`day` is a column of every"),
        ("retention_days = 1\n[columns.a]\ntype = 'money'", 3, "`columns.a.type`: Input"),
        ("retention_days = ", 1, "not TOML"),
    ],
)
def test_a_mistake_in_a_streams_file_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    with pytest.raises(ContractFileError) as caught:
        read_stream(path)
    assert any(p.line == line and message in p.message for p in caught.value.problems), str(
        caught.value
    )


def test_your_own_file_goes_before_a_shipped_one(tmp_path: Path) -> None:
    own = tmp_path / "streams"
    own.mkdir()
    (own / "app_logs.toml").write_text("retention_days = 3\n[columns.x]\ntype = 'text'\n")
    (own / "Bad-Name.toml").write_text("")
    streams, problems = read_streams(stream_folders(str(tmp_path)))
    assert streams["app_logs"].contract.retention_days == 3
    assert "app_runs" in streams
    assert [problem.message for problem in problems] == ["`Bad-Name` names no stream"]


# -- events


def test_an_event_of_every_type_is_taken_as_arrow_wants_it() -> None:
    data = {
        "title": "a",
        "count": 2**63 - 1,
        "price": 1,
        "good": True,
        "at": "2026-03-10T13:00:00+01:00",
        "on": "2026-03-09",
        "id": "11111111-2222-3333-4444-555555555555",
        "more": {"x": [1, None]},
    }
    found = Judge(stream()).check({"key": "k", "time": "2026-03-10T11:59:00Z", "data": data}, NOW)
    assert found.values["count"] == 2**63 - 1
    assert found.values["at"] == NOW
    assert found.values["id"] == data["id"]
    assert found.values["more"] == '{"x":[1,null]}'
    schema = pa.schema([field for field in stream().schema() if field.name in data])
    assert pa.Table.from_pylist([found.values], schema=schema).num_rows == 1
    key, value = encode(found, data)
    again = Judge(stream()).decode(
        RawEvent(TOPIC, 0, 1, int(NOW.timestamp() * 1000), key, value, [])
    )
    assert again._replace(source=None) == found


@pytest.mark.parametrize(
    ("document", "rule", "reason"),
    [
        ([], "not-an-event", "an event is an object"),
        ({"key": "k", "data": {"title": "a"}, "x": 1}, "not-an-event", "unknown `x`"),
        ({"data": {"title": "a"}}, "no-key", "`key` is missing"),
        ({"key": "k" * 201, "data": {"title": "a"}}, "bad-key", "at most 200 bytes"),
        ({"key": "a\nb", "data": {"title": "a"}}, "bad-key", "all printable"),
        ({"key": "k"}, "not-an-event", "`data` is missing"),
        ({"key": "k", "data": {}}, "breaks-contract", "`title` is missing"),
        ({"key": "k", "data": {"title": 1}}, "breaks-contract", "`title`: Input should be"),
        ({"key": "k", "data": {"title": "x" * 11}}, "breaks-contract", "at most 10"),
        ({"key": "k", "data": {"title": "a", "y": 1}}, "breaks-contract", "`y` is not a column"),
        ({"key": "k", "data": {"title": "a", "count": 2**63}}, "breaks-contract", "`count`"),
        ({"key": "k", "data": {"title": "a", "count": "1"}}, "breaks-contract", "`count`"),
        ({"key": "k", "data": {"title": "a", "at": "2026-01-01"}}, "breaks-contract", "`at`"),
        ({"key": "k", "time": "2026-03-10T11:00", "data": {"title": "a"}}, "bad-time", "zone"),
        ({"key": "k", "time": 5, "data": {"title": "a"}}, "bad-time", "zone"),
        ({"key": "k", "time": "2026-03-10T13:30Z", "data": {"title": "a"}}, "time-ahead", "hour"),
        ({"key": "k", "time": "2026-03-02T23:59Z", "data": {"title": "a"}}, "too-old", "kept"),
    ],
)
def test_what_is_no_event_of_the_stream_is_refused_with_a_reason(
    document: Any, rule: str, reason: str
) -> None:
    with pytest.raises(Refused) as caught:
        Judge(stream()).check(document, NOW)
    assert caught.value.rule == rule
    assert reason in caught.value.reason


def test_an_event_that_is_too_large_is_refused() -> None:
    large = {"title": "a", "more": "x" * EVENT_BYTES_MAX}
    found = Judge(stream()).check({"key": "k", "data": large}, NOW)
    with pytest.raises(Refused, match="at most 65536"):
        encode(found, large)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        (None, b"{}", "no-key"),
        (b"\xff", b"{}", "bad-key"),
        (b"k", None, "no-value"),
        (b"k", b"{", "not-json"),
        (b"k", b"{}", "not-an-event"),
        (b"k", b"x" * (EVENT_BYTES_MAX + 1), "too-large"),
    ],
)
def test_a_record_that_came_by_another_way_is_judged_too(
    key: bytes | None, value: bytes | None, rule: str
) -> None:
    with pytest.raises(Refused) as caught:
        Judge(stream()).decode(RawEvent(TOPIC, 0, 0, int(NOW.timestamp() * 1000), key, value, []))
    assert caught.value.rule == rule


# -- the table


def test_each_key_is_there_once_whatever_is_sent_again(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    table = StreamTable(lake, stream(), 15)
    first = table.append(events(["a", "b", "a"]), TOPIC, {0: 3}, NOW)
    assert (first.rows, first.duplicates) == (2, 1)
    again = table.append(events(["b", "c"], start=3), TOPIC, {0: 5}, NOW)
    assert (again.rows, again.duplicates) == (1, 1)
    reopened = StreamTable(lake, stream(), 15)
    assert reopened.positions(TOPIC, [0, 1]) == {0: 5}
    hours_later = events(["a", "d"], NOW + dt.timedelta(minutes=50), start=5)
    assert reopened.append(hours_later, TOPIC, {0: 7}, NOW).duplicates == 1
    assert keys_in(reopened) == ["a", "b", "c", "d"]


def test_a_key_counts_once_within_a_day_and_is_a_new_event_later(tmp_path: Path) -> None:
    table = StreamTable(DiskLake(tmp_path), stream(), 15)
    table.append(events(["a"], NOW - 3 * DAY), TOPIC, {0: 1}, NOW)
    assert table.append(events(["a"], NOW - 2 * DAY, 1), TOPIC, {0: 2}, NOW).duplicates == 1
    assert table.append(events(["a"], NOW - 4 * DAY, 2), TOPIC, {0: 3}, NOW).duplicates == 1
    assert table.append(events(["a"], NOW - DAY, 3), TOPIC, {0: 4}, NOW).rows == 1
    assert table.append(events(["a"], NOW - 3 * DAY, 4), TOPIC, {0: 5}, NOW).duplicates == 1


def test_two_writers_from_the_same_place_make_no_copies(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    one, two = StreamTable(lake, stream(), 15), StreamTable(lake, stream(), 15)
    for table in (one, two):
        table.ensure()
    one.append(events(["a"]), TOPIC, {0: 1}, NOW)
    with pytest.raises(Exception, match="Concurrent transaction"):
        two.append(events(["a"]), TOPIC, {0: 1}, NOW)
    assert two.positions(TOPIC, [0]) == {0: 1}
    assert keys_in(two) == ["a"]


@pytest.mark.unhurried
def test_random_batches_with_repeats_and_new_processes_hold_each_key_once(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    lake = DiskLake(tmp_path)
    table = StreamTable(lake, stream(), 15)
    times = {f"k{n}": NOW - rng.randrange(6) * DAY for n in range(60)}
    sent: set[str] = set()
    offset = 0
    for _ in range(25):
        if rng.random() < 0.3:
            table = StreamTable(lake, stream(), 15)
        if rng.random() < 0.2:
            table.join_small_files()
        batch: list[Event] = []
        for key in rng.choices(sorted(times), k=rng.randrange(12)):
            batch += events([key], times[key], offset)
            offset += 1
            sent.add(key)
        table.append(batch, TOPIC, {0: offset}, NOW)
    assert keys_in(table) == sorted(sent)
    assert table.positions(TOPIC, [0]) == {0: offset}


def test_days_before_the_retention_go_and_come_not_back(tmp_path: Path) -> None:
    table = StreamTable(DiskLake(tmp_path), stream(retention_days=3), 15)
    for back in range(4):
        table.append(events([f"k{back}"], NOW - back * DAY, back), TOPIC, {0: back + 1}, NOW)
    assert table.expire(NOW) == []
    later = NOW + DAY
    assert table.expire(later) == [(NOW - 3 * DAY).date()]
    late = table.append(events(["k3"], NOW - 3 * DAY, 4), TOPIC, {0: 5}, later)
    assert (late.rows, late.expired) == (0, 1)
    assert keys_in(table) == ["k0", "k1", "k2"]


def test_the_oldest_days_go_where_the_table_takes_too_much(tmp_path: Path) -> None:
    small = stream(max_mb=1, title={"type": "text"}, more={"type": "text"})
    judge = Judge(small)
    table = StreamTable(DiskLake(tmp_path), small, 15)
    rng = random.Random(1)
    for back in (2, 1, 0):
        some = [
            judge.decode(
                raw(n, f"{back}-{n}", NOW - back * DAY, {"more": rng.randbytes(15_000).hex()})
            )
            for n in range(40)
        ]
        table.append(some, TOPIC, {0: back}, NOW)
    assert table.expire(NOW) == [(NOW - 2 * DAY).date(), (NOW - DAY).date()]
    assert len(keys_in(table)) == 40


def test_small_files_of_a_day_are_joined_and_keep_their_rows(tmp_path: Path) -> None:
    table = StreamTable(DiskLake(tmp_path), stream(), 15)
    for number in range(JOIN_FILES_MIN):
        table.append(events([f"k{number}"], NOW, number), TOPIC, {0: number + 1}, NOW)
    assert table.join_small_files() == JOIN_FILES_MIN
    assert len(table.ensure().file_uris()) == 1
    assert table.append(events(["k3"], NOW, 50), TOPIC, {0: 51}, NOW).duplicates == 1


def test_a_new_column_is_added_and_a_changed_type_is_told(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    StreamTable(lake, stream(a={"type": "text"}), 15).ensure()
    wider = StreamTable(lake, stream(a={"type": "text"}, b={"type": "int64"}), 15)
    wider.append([Event("k", NOW, {"a": "x", "b": 1})], TOPIC, {0: 1}, NOW)
    narrower = StreamTable(lake, stream(b={"type": "int64"}), 15)
    narrower.append([Event("l", NOW, {"b": 2})], TOPIC, {0: 2}, NOW)
    rows = narrower.ensure().to_pyarrow_dataset().to_table(columns=["event_key", "a", "b"])
    assert sorted(rows.to_pylist(), key=lambda row: row["b"]) == [
        {"event_key": "k", "a": "x", "b": 1},
        {"event_key": "l", "a": None, "b": 2},
    ]
    with pytest.raises(StreamError, match="a new type needs a new column"):
        StreamTable(lake, stream(b={"type": "text"}), 15).ensure()


def test_a_captured_table_of_that_name_is_left_alone(tmp_path: Path) -> None:
    lake = DiskLake(tmp_path)
    DeltaTable.create(lake.url("silver/shop"), schema=pa.schema([("x", pa.int64())]))
    with pytest.raises(StreamError, match="does not belong to a stream"):
        StreamTable(lake, stream(), 15).ensure()
    assert lake.table("silver/shop").metadata().description != stream_mark("shop")


def test_the_index_forgets_the_days_used_longest_ago_and_reads_them_again() -> None:
    stored = {NOW.date() - n * DAY: [f"{n}-{k}" for k in range(5)] for n in range(10)}
    read: list[dt.date] = []

    def keys_of(day: dt.date) -> list[list[str]]:
        read.append(day)
        return [stored.get(day, [])]

    index = KeyIndex(keys_of, keys_max=20)
    for n in range(10):
        day = NOW.date() - n * DAY
        assert index.perhaps(day, [f"{n}-0", "never"]) == [True, False]
        index.add(day, [f"{n}-new"])
        stored[day].append(f"{n}-new")
    before = len(read)
    assert index.perhaps(NOW.date(), ["0-0", "0-new"]) == [True, True]
    assert len(read) > before

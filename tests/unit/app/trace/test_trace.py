"""Tracing a row: its key in users' and events' form, the search in bronze, its batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
import pytest
from kafka.partitioner.default import murmur2

from app.errors import HeadwaterError
from app.trace.trace_key import RowKey, parse_key
from app.trace.trace_scan import Found, Scan, Skip, in_order, scan
from app.trace.trace_silver import Batch, Batches, Row
from app.trace.trace_version import (
    COLUMNS,
    HOP_COLUMNS,
    Version,
    version_of,
    with_other_key,
)
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze
from spark_streaming.storage.store_address import ObjectStore
from tests.support.bronze import write
from tests.unit.debezium_events import MS, TOPIC, event, raw

NEVER = float("inf")
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def column(name: str, kind: str = "int32", number: int = 1, **more: Any) -> Column:
    return Column(name, kind, kind, attnum=number, **more)


def table(*columns: Column, key: tuple[str, ...]) -> Contract:
    return Contract("public", "films", tuple(columns), key)


FILMS = table(column("id"), column("title", "text", 2), key=("id",))
PAIRS = table(column("tenant"), column("word", "text", 2), key=("tenant", "word"))


class Reading(Bronze):
    """A bucket that remembers which objects were read."""

    def __init__(self, files: Any) -> None:
        super().__init__(files)
        self.read: list[int] = []

    def content(self, path: str) -> bytes:
        self.read.append(int(path.rsplit("/", 1)[1].split(".")[0]))
        return super().content(path)


@pytest.fixture
def bucket(tmp_path: Path) -> Any:
    return pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())


def film(number: int, offset: int, op: str = "u", **more: Any) -> RawEvent:
    made = event(op, lsn=100 + offset, after={"id": number, "title": f"t{offset}"}, offset=offset)
    key = json.dumps({"id": number}, separators=(",", ":")).encode()
    # In the connector's form, without blanks.
    document = json.dumps(json.loads(made.value or b""), separators=(",", ":")).encode()
    return made._replace(key=key, value=document, **more)


def searched(bronze: Bronze, key: RowKey, **more: Any) -> Scan:
    options: dict[str, Any] = {"limit": 100, "deadline": NEVER, **more}
    return scan(bronze, TOPIC, 0, key, **options)


def offsets(found: Scan) -> list[int]:
    return [one.event.offset for one in found.found]


@pytest.mark.parametrize("text", ["7", "id=7", '{"id": 7}', "07"])
def test_a_key_of_one_column_is_its_value_or_name_and_value_or_json(text: str) -> None:
    assert parse_key(FILMS, text).values == (7,)


@pytest.mark.parametrize(
    "text", ["3,a b", "tenant=3,word=a b", "word=a b,tenant=3", '{"word": "a b", "tenant": 3}']
)
def test_a_key_of_several_columns_is_given_in_order_or_by_name(text: str) -> None:
    assert parse_key(PAIRS, text).values == (3, "a b")


def test_a_text_with_commas_and_equals_signs_is_one_value() -> None:
    words = table(column("word", "text"), key=("word",))
    assert parse_key(words, "a=1,b=2").values == ("a=1,b=2",)
    assert parse_key(words, "word=a,b").values == ("a,b",)


@pytest.mark.parametrize(
    ("contract", "text", "told"),
    [
        (FILMS, "seven", "`seven` is not a value of public.films.id"),
        (FILMS, "99999999999", "is not a value of public.films.id"),
        (PAIRS, "3", "its key is (tenant, word)"),
        (PAIRS, "3,a,b", "its key is (tenant, word)"),
        (PAIRS, "tenant=3,tenant=4", "its key is (tenant, word)"),
        (PAIRS, '{"tenant": 3}', "its key is (tenant, word)"),
        (table(column("id"), key=()), "7", "has no key"),
    ],
)
def test_what_is_no_key_is_refused_with_the_key_that_is(
    contract: Contract, text: str, told: str
) -> None:
    with pytest.raises(HeadwaterError, match="no") as refused:
        parse_key(contract, text)
    assert told in str(refused.value)


def test_a_key_is_found_in_events_by_value_whatever_its_form() -> None:
    prices = table(column("price", "decimal", precision=8, scale=2), key=("price",))
    times = table(column("at", "timestamptz"), key=("at",))
    assert parse_key(prices, "1.5").matches(b'{"price":"1.50"}')
    assert parse_key(times, "2026-01-01 00:00:00+00").matches(b'{"at":"2026-01-01T00:00:00.000Z"}')
    key = parse_key(FILMS, "7")
    assert [key.matches(k) for k in (b'{"id":7}', b'{"id":70}', b'{"id":"7"}', None, b"7", b"{")] \
        == [True, False, False, False, False, False]  # fmt: skip


def test_the_first_partition_is_the_one_that_the_producer_chooses() -> None:
    wanted = (murmur2(b'{"tenant":3,"word":"a b"}') & 0x7FFFFFFF) % 7
    found = parse_key(PAIRS, "3,a b").partitions(7)
    assert found[0] == wanted
    assert sorted(found) == list(range(7))


def test_a_renamed_key_column_is_found_under_its_old_name_too(bucket: Any) -> None:
    older = table(column("film_id"), key=("film_id",))
    key = parse_key(replace(FILMS, version=2, previous_versions=(older,)), "7")
    old = film(7, 0)._replace(key=b'{"film_id":7}')
    write(bucket, [old, film(7, 1)], 10)
    assert offsets(searched(Bronze(bucket), key)) == [1, 0]


def test_the_events_of_a_key_are_found_newest_first_with_object_and_line(bucket: Any) -> None:
    events = [film(number % 9, number) for number in range(40)]
    write(bucket, events, 10)
    result = searched(Bronze(bucket), parse_key(FILMS, "4"))
    assert offsets(result) == [31, 22, 13, 4]
    assert [(one.path[-10:], one.line) for one in result.found][:2] == [
        ("0.jsonl.gz", 2), ("0.jsonl.gz", 3),
    ]  # fmt: skip
    assert (result.end, result.reached) == (40, None)


def test_keys_that_begin_or_end_alike_and_values_that_look_like_keys_are_told_apart(
    bucket: Any,
) -> None:
    words = table(column("word", "text"), column("note", "text", 2), key=("word",))
    texts = ['a"b', 'a"', '"', "a\\", "ä", "a\nb", 'word":"ä"', "{", "\x01", "a"]

    def word(text: str, offset: int) -> RawEvent:
        body = {"op": "c", "after": {"word": text, "note": '{"word":"ä"}'}, "source": {"lsn": 1}}
        dumped = (json.dumps(d, ensure_ascii=False, separators=(",", ":")) for d in ({"word": text}, body))  # fmt: skip
        key, value = (one.encode() for one in dumped)
        return raw(value, offset=offset, key=key)

    write(bucket, [word(text, number) for number, text in enumerate(texts)], 3)
    for number, text in enumerate(texts):
        key = parse_key(words, json.dumps({"word": text}))
        if "ä" in text:
            continue  # the sink writes them unchanged; see the next test
        assert offsets(searched(Bronze(bucket), key)) == [number], repr(text)


def test_the_needle_of_a_text_is_as_the_sink_writes_it() -> None:
    words = table(column("word", "text"), key=("word",))
    [needle] = parse_key(words, 'ä"\\').needles()
    assert needle.decode() == r"{\"word\":\"ä\\\"\\\\\"}"


def test_a_truncate_is_told_and_a_tombstone_is_not(bucket: Any) -> None:
    deleted = film(7, 1, "d")
    emptied = event("t", lsn=200, offset=3)
    emptied = emptied._replace(value=(emptied.value or b"").replace(b'"op": "t"', b'"op":"t"'))
    tombstone = deleted._replace(offset=2, value=None)
    write(bucket, [film(7, 0, "c"), deleted, tombstone, emptied, film(8, 4)], 2)
    assert offsets(searched(Bronze(bucket), parse_key(FILMS, "7"))) == [3, 1, 0]


def test_a_search_that_has_enough_or_no_time_says_how_far_it_came(bucket: Any) -> None:
    write(bucket, [film(number % 3, number) for number in range(60)], 3)
    bronze, key = Bronze(bucket), parse_key(FILMS, "1")
    enough = searched(bronze, key, limit=2)
    assert (offsets(enough), enough.reached) == ([58, 55], 54)
    hurried = searched(bronze, key, deadline=-NEVER)
    assert (offsets(hurried), hurried.reached) == ([58], 57)
    rest = searched(bronze, key, before=54)
    assert offsets(enough) + offsets(rest) == list(range(58, 0, -3))
    within = searched(bronze, key, before=56)
    assert offsets(within)[0] == 55


def test_a_search_ends_at_an_object_that_is_old_enough(bucket: Any) -> None:
    events = [
        film(number % 3, number, timestamp_ms=MS + number * 1_000_000) for number in range(60)
    ]
    write(bucket, events, 3)
    found = searched(Bronze(bucket), parse_key(FILMS, "1"), since_ms=MS + 55 * 1_000_000)
    assert (offsets(found), found.reached) == ([58, 55, 52], 51)


def test_events_of_several_partitions_are_put_together_as_the_source_committed_them() -> None:
    def placed(partition: int, offset: int, lsn: int) -> Found:
        return Found(event("u", lsn=lsn, offset=offset, partition=partition, after={"id": 7}))

    # An incremental snapshot's row has an older LSN than the event before it.
    found = [placed(1, 4, 300), placed(0, 2, 90), placed(0, 1, 100), placed(1, 3, 50), placed(0, 9, 200)]  # fmt: skip
    ordered = [(one.event.partition, one.event.offset) for one in in_order([*found, found[0]])]
    assert ordered == [(1, 3), (0, 1), (0, 2), (0, 9), (1, 4)]


def test_a_row_is_found_by_its_values_where_messages_are_keyed_by_another_key(bucket: Any) -> None:
    films = replace(
        table(column("id"), column("code", "text", 2), key=("code",)), replica_identity="index"
    )
    key = parse_key(films, "a")

    def coded(op: str, offset: int, before: Any, after: Any) -> RawEvent:
        document = {"op": op, "before": before, "after": after, "source": {"lsn": offset}}
        value = json.dumps(document, separators=(",", ":")).encode()
        return raw(value, offset=offset, key=b'{"id":1}' if offset % 2 else None)

    events = [
        coded("c", 0, None, {"id": 1, "code": "a"}),
        coded("c", 1, None, {"id": 2, "code": "aa"}),
        coded("u", 2, {"code": "a"}, {"id": 1, "code": "b"}),
        coded("u", 3, {"code": "b"}, {"code": "a", "id": 1}),
        coded("d", 4, {"code": "a"}, None),
        coded("t", 6, None, None),
    ]
    write(bucket, events, 2)
    found = searched(Bronze(bucket), key)
    assert offsets(found) == [6, 4, 3, 2, 0]
    told = {}
    for one in found.found:
        version = version_of(
            one, store=ObjectStore(bronze_bucket="b"), put_at=None, batch=None, data_file=None, row=None, state="",
            masked=frozenset(),
        )  # fmt: skip
        version = with_other_key(version, one.event, key, frozenset())
        told[one.event.offset] = (version.event, version.row)
    assert told[2] == ('update, key becomes {"code": "b"}', None)
    assert told[3] == ('update, key was {"code": "b"}', {"code": "a", "id": 1})
    assert told[0][0] == "insert" and sorted(key.partitions(3)) == [0, 1, 2]


def test_what_came_after_the_merge_of_silvers_row_is_not_read(bucket: Any) -> None:
    step_ms = 1_000_000
    events = [
        film(7 if block in (3, 8) else 1, block * 10_000, timestamp_ms=MS + block * step_ms)
        for block in range(12)
    ]
    write(bucket, events, 1)
    key = parse_key(FILMS, "7")

    def reads(**more: Any) -> tuple[list[int], set[int]]:
        bronze = Reading(bucket)
        skip = Skip(MS + 3 * step_ms, **{"merged_to": {0: 110_001}, "quarantined": {}, **more})
        found = offsets(searched(bronze, key, skip=skip))
        return found, {offset // 10_000 for offset in bronze.read}

    assert reads() == ([30_000], {11, 3, 2, 1, 0})
    # Events that silver has not merged or that are in quarantine are read.
    assert reads(merged_to={0: 75_000}) == ([80_000, 30_000], {11, 10, 9, 8, 7, 3, 2, 1, 0})
    assert reads(quarantined={0: [80_000]}) == ([80_000, 30_000], {11, 8, 3, 2, 1, 0})


def batches(*ends: int, from_start: bool = True) -> Batches:
    rows = [
        (Batch(number, number + 1, NOON + timedelta(seconds=number)), {TOPIC: {0: end}})
        for number, end in enumerate(ends)
    ]
    return Batches(rows, from_start)


def numbers(found: Batches, *places: int) -> Iterator[int | None]:
    for offset in places:
        batch = found.of(TOPIC, 0, offset)
        yield batch.batch_id if batch else None


def test_an_event_was_merged_by_the_batch_whose_offsets_pass_it() -> None:
    assert list(numbers(batches(10, 10, 25), 0, 9, 10, 24, 25)) == [0, 0, 2, 2, None]
    assert batches(10, 25).merged_to(TOPIC) == {0: 25}


def test_the_oldest_batch_that_the_ledger_kept_is_not_taken_for_earlier_ones() -> None:
    assert list(numbers(batches(10, 25, from_start=False), 3, 12)) == [None, 1]


def test_after_a_rebuild_the_later_batch_counts() -> None:
    assert list(numbers(batches(10, 25, 5, 30), 12, 3)) == [3, 0]


def test_a_version_tells_its_whole_way_with_the_times_from_the_commit() -> None:
    committed = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=MS + 105)
    found = Found(film(7, 5, timestamp_ms=MS + 135), "a/b.jsonl.gz", 3)
    version = version_of(
        found,
        store=ObjectStore(),
        put_at=committed + timedelta(seconds=1),
        batch=Batch(3, 4, committed + timedelta(seconds=3)),
        data_file="part-1.parquet",
        row=Row(Lsn(105), committed, committed + timedelta(seconds=2), "part-1.parquet", 9),
        state="in silver",
        masked=frozenset({"title"}),
    )
    assert (version.lsn, version.kafka) == ("0/69", f"{TOPIC}/0/5")
    assert (version.kafka_ms, version.bronze_ms, version.silver_ms) == (30, 1000, 2000)
    assert version.row == {"id": 7, "title": "(masked)"}
    hops = [dict(zip(HOP_COLUMNS, row, strict=True)) for row in version.hops(1)]
    assert [hop["hop"] for hop in hops] == ["postgres", "kafka", "bronze", "silver"]
    assert hops[2]["where"] == "s3://bronze/a/b.jsonl.gz line 3"
    assert hops[3]["where"] == "in silver, batch 3, version 4, part-1.parquet"
    assert hops[3]["at"] == committed + timedelta(seconds=2)
    assert len(version.as_row()) == len(COLUMNS)


def test_what_is_not_known_is_not_told() -> None:
    found = Found(raw(b"not json", offset=3, key=b'{"id":7}'))
    version = version_of(
        found,
        store=ObjectStore(),
        put_at=None,
        batch=None,
        data_file=None,
        row=None,
        state="quarantine, open: not-json: …",
        masked=frozenset(),
    )
    assert (version.event, version.lsn, version.bronze, version.silver_ms) == (
        "not read",
        *[None] * 3,
    )
    assert [row[5] for row in version.hops(1)][2] == "not there yet"
    nothing = Version("now", state="no such row")
    assert [row[5] for row in nothing.hops("now")] == ["no such row"]

"""All events of a key are found in bronze, tombstones too, with the other key of each change of key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.fs as pa_fs
import pytest

from app.erase.key_search import search
from app.trace.trace_key import parse_key
from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import RawEvent
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.erased_events import HEADER
from tests.support.bronze import write
from tests.unit.debezium_events import TOPIC, event, raw
from tests.unit.model import KEYED


@pytest.fixture
def bucket(tmp_path: Path) -> Any:
    return pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())


def film(number: int, offset: int, op: str = "u", **more: Any) -> RawEvent:
    row = {"id": number, "note": '{"id":1}', "big": None}
    after = None if op == "d" else row
    made = event(op, lsn=100 + offset, key={"id": number}, after=after, offset=offset, **more)
    return made._replace(key=f'{{"id":{number}}}'.encode())


def tombstone(number: int, offset: int) -> RawEvent:
    return raw(None, offset=offset, key=f'{{"id":{number}}}'.encode())


def found(bucket: Any, text: str, contract: Contract = KEYED) -> list[tuple[int, str]]:
    key = parse_key(contract, text)
    return [(e.offset, e.op) for e in search(Bronze(bucket), TOPIC, [key]).events[key]]


def test_a_keys_events_and_tombstones_are_found_in_all_objects_and_no_other_rows(
    bucket: Any,
) -> None:
    some = [film(1, 0, "c"), film(11, 1), film(1, 2), film(2, 3), film(1, 4, "d"), tombstone(1, 5)]
    write(bucket, some, 2)
    assert found(bucket, "1") == [(0, "c"), (2, "u"), (4, "d"), (5, "")]


def test_what_is_erased_is_not_found_again(bucket: Any) -> None:
    write(
        bucket, [film(1, 0), raw(None, offset=1, headers=[(HEADER, b'{"op":"u"}')]), film(1, 2)], 9
    )
    assert found(bucket, "1") == [(0, "u"), (2, "u")]


def test_an_event_that_is_no_json_is_found_by_its_message_key(bucket: Any) -> None:
    write(bucket, [raw(b"Ana {", offset=0, key=b'{"id":1}')], 9)
    assert found(bucket, "1") == [(0, "")]


def test_a_change_of_key_names_the_other_key_in_both_halves(bucket: Any) -> None:
    away = film(1, 0, "d", headers={"newkey": {"id": 2}})
    here = film(2, 2, "c", headers={"oldkey": {"id": 1}})
    write(bucket, [away, tombstone(1, 1), here], 9)
    one, two = parse_key(KEYED, "1"), parse_key(KEYED, "2")
    events = search(Bronze(bucket), TOPIC, [one, two]).events
    assert [e.went_to for e in events[one]] == [two, None]
    assert [e.came_from for e in events[two]] == [one]


def test_partitions_are_searched_all_and_their_ends_are_told(bucket: Any) -> None:
    write(bucket, [film(1, 0, "c"), film(2, 1)], 1)
    write(bucket, [film(1, 7, "d", partition=2)], 1)
    key = parse_key(KEYED, "1")
    result = search(Bronze(bucket), TOPIC, [key])
    assert [(e.partition, e.offset) for e in result.events[key]] == [(0, 0), (2, 7)]
    assert (result.ends, result.objects) == ({0: 2, 2: 8}, 3)


def test_rows_that_are_named_by_their_values_are_found_with_the_tombstones_of_their_deletes(
    bucket: Any,
) -> None:
    contract = replace(KEYED, replica_identity="index")
    other = {"id": 2, "note": None, "big": None}
    mine = {**other, "id": 1}

    def change(op: str, offset: int, before: Any, after: Any) -> RawEvent:
        return event(op, lsn=offset + 1, key={"pk": 77}, before=before, after=after, offset=offset)

    pk = b'{"pk": 77}'
    events = [
        change("c", 0, None, other),
        change("u", 1, other, mine),
        change("d", 2, mine, None),
        raw(None, offset=3, key=pk),
        change("d", 4, other, None),
        raw(None, offset=5, key=pk),
    ]
    write(bucket, events, 3)  # the tombstone begins an object
    assert found(bucket, "1", contract) == [(1, "u"), (2, "d"), (3, "")]
    key = parse_key(contract, "1")
    [moved, *_] = search(Bronze(bucket), TOPIC, [key]).events[key]
    assert moved.came_from == parse_key(contract, "2")

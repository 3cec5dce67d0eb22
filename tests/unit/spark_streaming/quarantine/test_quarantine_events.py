"""Quarantine's entries, which every user may query, and its events, which are not in Trino."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import write_deltalake as write_delta

from spark_streaming.events.event import Place, RawEvent, Reject
from spark_streaming.quarantine import quarantine_upgrade
from spark_streaming.quarantine.hiding import Hiding
from spark_streaming.quarantine.quarantine import (
    DISCARDED,
    OPEN,
    REPLAYED,
    SCHEMA,
    Quarantine,
    unresolved_rows,
)
from spark_streaming.quarantine.quarantined_rows import place_of
from spark_streaming.quarantine.raw_events import COLUMNS, RawEvents, path_of
from spark_streaming.storage.lake import QUARANTINE
from spark_streaming.tables.silver_table import TableOptions
from tests.support.disk_lake import DiskLake

SECRET = "ada@example.com"
MASKS = Hiding(frozenset({"email"}))
REASON = f'column email (citext) cannot hold "{SECRET}": it is odd'
PROPERTIES = TableOptions().properties()
Make = Callable[..., Quarantine]


def event(offset: int, topic: str = "hw.public.guests") -> RawEvent:
    value = json.dumps({"after": {"id": offset, "email": SECRET}}).encode()
    key = json.dumps({"email": SECRET, "id": offset}).encode()
    return RawEvent(topic, 0, offset, 1_790_000_000_000, key, value, [("h", b"1")])


def reject(offset: int) -> Reject:
    return Reject(event(offset), "wrong-type", REASON)


def quarantine_of(lake: DiskLake, hiding: Hiding = MASKS) -> Quarantine:
    return Quarantine(lake, "q", PROPERTIES, lambda _: hiding)


def entries(lake: DiskLake) -> list[dict[str, Any]]:
    return list(lake.table(QUARANTINE).to_pyarrow_table().sort_by("offset").to_pylist())


def events(lake: DiskLake) -> list[int]:
    return sorted(lake.table(path_of(QUARANTINE)).to_pyarrow_table()["offset"].to_pylist())


def test_entries_show_nothing_of_a_masked_column_and_the_event_is_kept_whole(
    lake: DiskLake,
) -> None:
    kept = quarantine_of(lake)
    kept.put({"guests": [reject(1), reject(2)]}, 0)
    kept.note_values("guests", place_of(event(1)), {"email": SECRET, "v": "7"})
    [first, second] = entries(lake)
    assert SECRET not in str([first, second])
    assert not {*COLUMNS} & {*first}
    assert first["key"] == '{"email":"(masked)","id":1}'
    assert first["reason"] == "column email (citext) cannot hold its value (masked)"
    assert json.loads(first["replayed_values"]) == {"email": "(masked)", "v": "7"}
    assert second["replayed_values"] is None
    found = list(quarantine_of(lake).unresolved("guests"))
    assert [held.event for held in found] == [event(1), event(2)]
    [given] = [
        row["replayed_values"]
        for row in lake.table(path_of(QUARANTINE)).to_pyarrow_table().to_pylist()
        if row["offset"] == 1
    ]
    assert json.loads(given)["email"] == SECRET


def test_a_batch_that_is_repeated_has_each_event_once(lake: DiskLake) -> None:
    for _ in range(2):
        quarantine_of(lake).put({"guests": [reject(1)]}, 0)
    quarantine_of(lake).put_missing("guests", [reject(1), reject(2)])
    assert events(lake) == [1, 2]
    assert [row["offset"] for row in entries(lake)] == [1, 2]


def test_a_crash_between_event_and_entry_leaves_nothing_that_counts(
    lake: DiskLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    kept = quarantine_of(lake)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("spark_streaming.quarantine.quarantine.write_delta", killed)
        kept.put({"guests": [reject(1)]}, 0)
    assert (events(lake), entries(lake)) == ([1], [])
    assert list(quarantine_of(lake).unresolved("guests")) == []
    quarantine_of(lake).put({"guests": [reject(1)]}, 0)
    assert events(lake) == [1, 1], "the first copy stays until the entry goes"
    assert [held.event.offset for held in quarantine_of(lake).unresolved("guests")] == [1]
    kept.withdraw([place_of(event(1))])
    assert (events(lake), entries(lake)) == ([], [])


def test_upkeep_removes_the_events_whose_entries_are_gone(lake: DiskLake) -> None:
    kept = quarantine_of(lake)
    kept.put({"guests": [reject(1), reject(2)]}, 0)
    lake.table(QUARANTINE).delete('"offset" = 1')
    kept.events.prune()
    assert events(lake) == [2]


def an_older_home(lake: DiskLake, rows: int = 5) -> list[RawEvent]:
    """A table of an earlier release that stored the events beside the entries, in several versions."""
    fields = [field for field in SCHEMA if field.name != "replayed_values"]
    fields += [pa.field("raw_key", pa.binary()), pa.field("raw_value", pa.binary())]
    schema = pa.schema([*fields, pa.field("raw_headers", pa.string())])
    DeltaTable.create(lake.url(QUARANTINE), schema=schema, configuration=PROPERTIES)
    made = []
    for offset in range(rows):
        one = event(offset)
        row = {
            "table_name": "guests",
            "key": (one.key or b"").decode(),
            "reason": REASON,
            "rule": "wrong-type",
            "topic": one.topic,
            "partition": 0,
            "offset": offset,
            "event_timestamp": one.timestamp_ms * 1000,
            "status": [None, OPEN, DISCARDED, REPLAYED][offset % 4],
            "raw_key": one.key,
            "raw_value": one.value,
            "raw_headers": '[["h", "1"]]',
        }
        write_delta(
            lake.url(QUARANTINE),
            pa.Table.from_pylist([row], schema=schema),
            mode="append",
            commit_properties=CommitProperties(
                app_transactions=[Transaction("headwater:q:quarantine", offset)]
            ),
        )
        made.append(one)
    return made


def assert_upgraded(lake: DiskLake, made: list[RawEvent]) -> None:
    rows = entries(lake)
    assert [row["offset"] for row in rows] == [one.offset for one in made]
    assert SECRET not in str(rows)
    assert [row["status"] or OPEN for row in rows] == [OPEN, OPEN, DISCARDED, REPLAYED, OPEN]
    kept = quarantine_of(lake)
    left = sorted((held.event for held in kept.unresolved("guests")), key=place_of)
    assert left == [*made[:3], made[4]]
    table = lake.table(QUARANTINE)
    here = {Path(uri).name for uri in table.file_uris()}
    assert {path.name for path in Path(lake.url(QUARANTINE)).glob("*.parquet")} == here
    for version in range(1, len(made) + 1):
        with pytest.raises(FileNotFoundError):
            lake.table(QUARANTINE, version).to_pyarrow_table()
    assert table.transaction_version("headwater:q:quarantine") == len(made) - 1
    assert table.metadata().configuration == PROPERTIES


def test_an_older_homes_entries_are_all_kept_and_no_version_of_the_table_has_their_events(
    lake: DiskLake,
) -> None:
    made = an_older_home(lake)
    kept = quarantine_of(lake)
    kept.ensure()
    assert_upgraded(lake, made)
    kept.put({"guests": [reject(9)]}, 4)  # a repeated batch adds nothing
    assert [row["offset"] for row in entries(lake)] == [0, 1, 2, 3, 4, 9]
    assert kept.close([Place(made[0].topic, 0, 0)], REPLAYED) == 1


@pytest.mark.parametrize("step", ["replace", "write_delta", "vacuum", "set_table_description"])
def test_an_upgrade_that_was_cut_anywhere_is_repeated(
    lake: DiskLake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = an_older_home(lake)
    places: dict[str, Any] = {
        "replace": RawEvents,
        "write_delta": quarantine_upgrade,
        "vacuum": DeltaTable,
        "set_table_description": "deltalake.table.TableAlterer",
    }

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        place = places[step]
        if isinstance(place, str):
            patch.setattr(f"{place}.{step}", killed)
        else:
            patch.setattr(place, step, killed)
        quarantine_of(lake).ensure()
    # Concurrent readers find the entries with their events, in either form.
    read = [row["offset"] for some in unresolved_rows(lake, QUARANTINE, "guests") for row in some]
    assert sorted(read) == [0, 1, 2, 4]
    quarantine_of(lake).ensure()
    assert_upgraded(lake, made)


def test_entries_from_before_a_mask_hide_its_column_at_the_next_start(lake: DiskLake) -> None:
    quarantine_of(lake, Hiding()).put({"guests": [reject(1)]}, 0)
    assert SECRET in str(entries(lake))
    quarantine_of(lake).ensure()
    assert SECRET not in str(entries(lake))
    version = lake.table(QUARANTINE).version()
    quarantine_of(lake).ensure()
    assert lake.table(QUARANTINE).version() == version, "nothing is written where nothing shows"


@pytest.mark.parametrize(
    ("hiding", "shown"),
    [
        (Hiding(), {"key": '{"id": 1, "email":"a"}', "reason": 'column email (text) cannot hold "a": no'}),
        (MASKS, {"key": '{"id":1,"email":"(masked)"}', "reason": "column email (text) cannot hold its value (masked)"}),
        (Hiding(everything=True), {"key": '{"id":"(masked)","email":"(masked)"}', "reason": "column email (text) cannot hold its value (masked)"}),
        (Hiding(frozenset({"mail"})), {"key": '{"id": 1, "email":"a"}', "reason": 'column email (text) cannot hold "a": no'}),
    ],
)  # fmt: skip
def test_texts_hide_masked_columns_and_nothing_else_and_twice_is_as_once(
    hiding: Hiding, shown: dict[str, str]
) -> None:
    key = hiding.key('{"id": 1, "email":"a"}')
    reason = hiding.reason('column email (text) cannot hold "a": no')
    assert {"key": key, "reason": reason} == shown
    assert (hiding.key(key), hiding.reason(reason)) == (key, reason)
    assert hiding.key(None) is None


def test_a_key_that_is_no_object_is_hidden_where_a_column_is_masked() -> None:
    assert MASKS.key("plain") == MASKS.key('"plain"') == "(masked)"
    assert Hiding().key("plain") == "plain"

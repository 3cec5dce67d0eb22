"""An erasure leaves nothing of a row anywhere; wherever the command is killed, the next run finishes it."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.erase import erase_command
from app.erase.receipt import Receipt
from app.errors import HeadwaterError
from spark_streaming.compaction.compactor import PACKED
from spark_streaming.events.envelope import HighWater, decode
from spark_streaming.reading.bronze import Bronze
from tests.unit.app.erase.erase_world import ERASED, EVENTS, PERSON, SOON, EraseWorld, Killed
from tests.unit.debezium_events import TOPIC
from tests.unit.model import KEYED

OTHERS = [(2, "other"), (2, "another")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EraseWorld:
    return EraseWorld(tmp_path, monkeypatch)


def removed(receipt: Receipt) -> dict[str, int]:
    return {f"{s.store} {s.what}": s.removed for s in receipt.shares if s.removed}


def test_a_row_is_erased_from_every_store_under_all_keys_that_it_had(world: EraseWorld) -> None:
    before = Counter(world.traces())
    assert {"bronze", "silver", "history", "raw", "ops", "kafka"} <= set(before)
    receipt = world.erase()
    assert world.traces() == []
    assert world.history() == OTHERS
    assert removed(receipt) == {
        "bronze events": ERASED,
        "quarantine entries": 1,
        "history versions": 4,
        "silver old files": 1,
        "history old files": removed(receipt)["history old files"],
        "quarantine old files": 2,
        "kafka records": ERASED,
    }
    assert receipt.offsets == {0: [0, 2, 3, 5, 6, 7, 8]} and receipt.lsns == (10, 80)


def test_what_is_left_in_bronze_is_read_as_the_other_rows_alone(world: EraseWorld) -> None:
    world.erase()
    events = list(Bronze(world._history.files).events(TOPIC, 0, 0, _no_gap))
    assert [e.offset for e in events] == list(range(len(EVENTS)))
    assert [e.timestamp_ms for e in events] == [e.timestamp_ms for e in EVENTS]
    decoded = decode(events, KEYED, HighWater())
    assert not decoded.rejects and [c.key for c in decoded.changes.changes] == [2, 2]
    kept = {1: EVENTS[1], 4: EVENTS[4]}
    assert {e.offset: e for e in events if e.value is not None} == kept


def test_a_history_that_is_filled_again_has_no_version_of_the_row(world: EraseWorld) -> None:
    world.erase()
    world._history.say('history = "last"')  # another mode begins the table anew
    world._history.process().run()
    assert world.history() == OTHERS


def test_a_second_run_finds_nothing_and_writes_no_receipt(world: EraseWorld) -> None:
    world.erase()
    again = world.erase()
    assert again.is_empty and again.document()["id"] is None
    assert len(world.receipts()) == 1


def test_a_dry_run_finds_the_same_and_changes_nothing(world: EraseWorld) -> None:
    before = world.traces()
    planned = world.erase(dry_run=True)
    assert world.traces() == before and not removed(planned) and world.receipts() == []
    found = {(s.store, s.what): s.found for s in planned.shares if s.what != "old files"}
    done = world.erase()
    assert {(s.store, s.what): s.found for s in done.shares if s.what != "old files"} == found


def test_the_receipt_has_no_key_and_no_value_and_equal_keys_have_equal_digests(
    world: EraseWorld,
) -> None:
    receipt = world.erase()
    [row] = world.receipts()
    assert row["id"] == receipt.id and row["key_digest"] == world.erase().digest
    assert world.erase("3", dry_run=True).digest != receipt.digest
    text = json.dumps(row, default=str)
    assert PERSON not in text and '"id": 1' not in text and len(receipt.digest) == 64
    assert json.loads(row["positions"])["lsn"] == ["0/A", "0/50"]
    where = {one["where"] for one in json.loads(row["remains"])}
    assert {"source", "kafka", "backups"} <= where


def test_kafka_keeps_its_records_if_it_is_told_to_and_the_receipt_says_until_when(
    world: EraseWorld,
) -> None:
    receipt = world.erase(keep_kafka=True)
    assert set(world.traces()) == {"kafka"}
    assert "kafka records" not in removed(receipt)
    [kafka] = [one for one in receipt.remains if one.where == "kafka"]
    assert kafka.what.startswith(f"{ERASED} records") and kafka.until.endswith("at the latest")


def test_a_command_that_is_killed_anywhere_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = 0
    made = tmp_path / "made"
    made.mkdir()
    with monkeypatch.context() as patch:
        EraseWorld(made, patch)
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        with monkeypatch.context() as patch:
            world = EraseWorld(folder, patch, made)
            world.kill_at = step
            try:
                world.erase()
            except Killed:
                kills += 1
            else:
                break  # there are no more steps
            world.kill_at = -1
            world.erase()
            assert world.traces() == [], step
            assert world.history() == OTHERS, step
            [row] = world.receipts()
            shares = {(s["store"], s["what"]): s["removed"] for s in json.loads(row["removed"])}
            # What was counted before the kill is in the plan and in the job's answer.
            assert row["events"] == ERASED and shares["history", "versions"] == 4, step
            assert shares["quarantine", "entries"] == 1, step
            assert world.erase().is_empty, step
            [_] = world.receipts()
    assert kills >= 20


def test_a_row_that_the_source_still_has_is_not_touched(
    world: EraseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise HeadwaterError("the source still has this row")

    monkeypatch.setattr(erase_command, "gone_from_source", refuse)
    before = world.traces()
    with pytest.raises(HeadwaterError, match="still has this row"):
        world.erase()
    assert world.traces() == before and world.receipts() == []


def test_a_row_that_silver_still_has_is_not_touched(world: EraseWorld) -> None:
    world._write_silver([(1, f"{PERSON} 3", 60)])
    before = world.traces()
    with pytest.raises(HeadwaterError, match="silver still has the row"):
        world.erase(wait_s=0)
    assert world.traces() == before


def test_silver_that_does_not_answer_leaves_a_plan_that_the_next_run_finishes(
    world: EraseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 10_000, 10))
    idle = SimpleNamespace(sleep=lambda _: None, monotonic=lambda: float(next(seconds)))
    with monkeypatch.context() as patch:
        patch.setattr(erase_command, "time", idle)
        with pytest.raises(HeadwaterError, match="has not answered"):
            world.erase()
    assert "bronze" not in world.traces() and "history" in world.traces()
    world.erase()
    assert world.traces() == []


def test_a_row_that_only_quarantine_still_has_is_erased_there(world: EraseWorld) -> None:
    for path in (world._folder / "bronze" / TOPIC).rglob("*.gz"):
        path.unlink()  # by a lifecycle rule of the bucket
    assert removed(world.erase())["quarantine entries"] == 1
    assert not {"raw", "ops", "bronze"} & set(world.traces())


def _no_gap(*gap: int) -> None:
    raise AssertionError(gap)


def test_events_go_out_of_packed_objects_and_of_the_small_ones_that_they_hold(
    world: EraseWorld,
) -> None:
    later = replace(SOON, kept_s=3_600.0)
    while world.compactor(later).pack(TOPIC, 0, time.time()) == PACKED:
        pass
    assert any("/archive/" in path for path in world.bronze)
    receipt = world.erase()
    assert removed(receipt)["bronze events"] == ERASED and world.traces() == []
    events = list(Bronze(world._history.files).events(TOPIC, 0, 0, _no_gap))
    assert [e.offset for e in events] == list(range(len(EVENTS)))


def test_what_was_being_packed_when_the_packer_died_does_not_bring_the_row_back(
    world: EraseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kill_at = world.steps + 3  # the note is written, the packed object is not put yet
    with pytest.raises(Killed):
        world.compactor().pack(TOPIC, 0, time.time())
    world.kill_at = -1
    world.erase()
    assert world.traces() == [] and any("/archive/" in path for path in world.bronze)
    world.compactor().drop_packed(TOPIC, 0, time.time())
    assert world.traces() == []

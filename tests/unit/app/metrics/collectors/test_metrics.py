"""The exporter's own parts: cost and series are bounded, and waiting is measured correctly."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import generate_latest

from app.metrics.board import LABEL_CHARS_MAX, SERIES_MAX, Board
from app.metrics.collectors.carriage import CarriageCollector, Kafka, Waiting
from app.metrics.collectors.contract_targets import REFRESH_S, TARGET_S, Contracts
from app.metrics.collectors.lake_size import Inventory, folder_listing
from app.metrics.collectors.processes import families, family
from app.metrics.collectors.silver_ledger import SilverState
from app.metrics.collectors.source_wal import GROWTH_WINDOW_S, SourceCollector, SourceSession
from app.metrics.exporter import (
    FAILED_AGAIN_S,
    FAILED_AGAIN_S_MAX,
    GRACE_CPU_S,
    PERIOD_S_MAX,
    Exporter,
    others_start,
)
from spark_streaming.contract.lsn import Lsn
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.store_address import ObjectStore
from spark_streaming.tables.silver_names import SilverNames
from tests.support.clock import Clock
from tests.support.disk_lake import DiskLake
from tests.support.waiting import until

UP = "headwater_collector_up"
STORE = ObjectStore("http://127.0.0.1:9", access_key="a", secret_key="b")
BEHIND = "headwater_delta_files"


@dataclass
class Look:
    """A collector that takes `cost_s` of CPU for each collection and fails while `fails`."""

    clock: Clock = field(default_factory=Clock)
    cpu: Clock = field(default_factory=Clock)
    cost_s: float = 0.0
    fails: bool = False
    name: str = "look"
    period_s: float = 5.0
    share: float = 0.01
    looks: list[float] = field(default_factory=list)
    resets: int = 0

    def collect(self) -> None:
        self.looks.append(self.clock.now)
        self.cpu.now += self.cost_s
        if self.fails:
            raise OSError("nobody there")

    def reset(self) -> None:
        self.resets += 1


def run(look: Look, seconds: float) -> Board:
    board, clock = Board(), look.clock
    exporter = Exporter(board, [look], now=clock, cpu=look.cpu)
    end = clock.now + seconds
    while clock.now < end:
        clock.now += max(0.01, exporter.step())
    return board


def test_a_cheap_collector_looks_at_its_period() -> None:
    look = Look(cost_s=0.001)
    run(look, 60)
    assert look.looks == [5.0 * n for n in range(12)]


def test_a_dear_collector_stays_within_its_share() -> None:
    look = Look(cost_s=1.0)
    run(look, 3_600)
    assert look.cpu() <= GRACE_CPU_S + 3_600 * look.share + look.cost_s


def test_the_dearest_collector_looks_again_after_a_quarter_of_an_hour() -> None:
    look = Look(cost_s=500.0)
    run(look, 3_600)
    gaps = {b - a for a, b in zip(look.looks, look.looks[1:], strict=False)}
    assert gaps == {PERIOD_S_MAX}


def test_a_failed_look_is_told_drops_its_connections_and_comes_again_later() -> None:
    look = Look(fails=True, period_s=1.0)
    board = run(look, 30)
    assert board.get(UP) == {("look",): 0}
    assert look.resets == len(look.looks)
    assert look.looks[1] - look.looks[0] == FAILED_AGAIN_S


def test_a_collector_that_hangs_counts_as_failed_and_the_others_go_on() -> None:
    answers = threading.Event()

    class Hung(Look):
        def collect(self) -> None:
            super().collect()
            answers.wait(60)

    hung, well = Hung(name="hung"), Look(name="well")
    board = Board()
    exporter = Exporter(board, [hung, well], now=well.clock, cpu=well.cpu, hangs_after_s=0.01)
    for _ in range(3):
        exporter.step()
        well.clock.now += FAILED_AGAIN_S
    assert board.get(UP) == {("hung",): 0, ("well",): 1}
    assert (len(hung.looks), len(well.looks)) == (1, 3)
    answers.set()

    def works_again() -> bool:
        well.clock.now += FAILED_AGAIN_S
        exporter.step()
        return board.get(UP)[("hung",)] == 1

    until(works_again, within_s=10, what="the collector works again")


def test_a_dear_collector_that_failed_looks_again_within_a_minute() -> None:
    look = Look(cost_s=500.0, fails=True)
    run(look, 600)
    gaps = {b - a for a, b in zip(look.looks, look.looks[1:], strict=False)}
    assert gaps == {FAILED_AGAIN_S_MAX}


def test_a_family_has_a_limit_and_keeps_the_largest_values() -> None:
    board = Board()
    board.replace(BEHIND, {(f"t{n}",): float(n) for n in range(SERIES_MAX + 10)})
    kept = board.get(BEHIND)
    assert len(kept) == SERIES_MAX
    assert min(kept.values()) == 10
    assert board.get("headwater_exporter_series_dropped") == {(): 10}


def test_a_vanished_table_leaves_no_series() -> None:
    board = Board()
    board.replace(BEHIND, {("a",): 1.0, ("b",): 2.0})
    board.replace(BEHIND, {("b",): 3.0})
    text = generate_latest(board.registry).decode()
    assert 'headwater_delta_files{table="b"} 3.0' in text
    assert 'table="a"' not in text


def test_a_long_label_is_cut() -> None:
    board = Board()
    board.replace(BEHIND, {("x" * 1_000,): 1.0})
    assert list(board.get(BEHIND)) == [("x" * LABEL_CHARS_MAX,)]


def test_wrong_labels_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="takes the labels"):
        Board().replace(BEHIND, {("a", "b"): 1.0})


def test_what_is_read_does_not_wait_and_what_is_not_waits_since_it_was_seen() -> None:
    waiting = Waiting()
    waiting.end(0, 10)
    waiting.end(5, 10)
    waiting.end(10, 25)
    waiting.end(20, 40)
    assert waiting.seconds(30, 40) == 0
    assert waiting.seconds(30, 25) == 10
    assert waiting.seconds(30, 24) == 20
    assert waiting.seconds(30, 3) == 30


def test_waiting_keeps_a_bounded_history() -> None:
    waiting = Waiting()
    for moment in range(10_000):
        waiting.end(moment, moment)
    assert waiting.seconds(10_000, 0) < 1_000


def test_a_reader_has_what_stood_before_the_ends_that_it_has_reached() -> None:
    waiting = Waiting()
    assert waiting.complete(0) is None
    waiting.end(0, 10, 1_000)
    waiting.end(5, 25, 2_000)
    waiting.end(10, 25, 2_500)  # no event of this partition, although the source advanced
    waiting.end(15, 40, None)  # the source does not answer
    assert waiting.complete(9) is None
    assert waiting.complete(12) == 1_000
    assert waiting.complete(25) == 2_500
    assert waiting.complete(40) == 2_500
    assert waiting.complete(3) is None


def test_what_a_reader_had_stays_known_when_the_notes_have_gone_by() -> None:
    waiting = Waiting()
    waiting.end(0, 10, 1_000)
    assert waiting.complete(10) == 1_000
    for moment in range(1, 10_000):
        waiting.end(moment, 10 + moment, 1_000 + moment)
    assert waiting.complete(10) == 1_000


class Ends:
    """Kafka's offsets, as the test sets them."""

    def __init__(self) -> None:
        self.at = {
            ("hw.public.orders", 0): 10,
            ("hw.public.orders", 1): 10,
            ("hw.public.tags", 0): 4,
        }
        self.stored = dict(self.at)
        self.table_of = Kafka(
            KafkaCluster(""),
            "hw",
            "heartbeat",
            time.monotonic,
            SilverNames(DiskLake(Path(__file__).parent)),
        ).table_of

    def ends(self) -> dict[tuple[str, int], int]:
        return dict(self.at)

    def starts(self) -> dict[tuple[str, int], int]:
        return dict.fromkeys(self.at, 0)

    def bronze(self) -> dict[tuple[str, int], int]:
        return dict(self.stored)


def test_each_hop_is_behind_by_the_wal_that_it_is_not_known_to_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka: Any = Ends()
    board = Board()
    state = SilverState(Lake(STORE), lambda table: 60.0)
    monkeypatch.setattr(state, "refresh", lambda: None)
    carriage = CarriageCollector(kafka, state, board, clock=lambda: 0.0)

    def look(position: float, unconfirmed: float) -> dict[tuple[str, ...], float]:
        board.set("headwater_source_wal_position_bytes", position)
        board.set("headwater_slot_unconfirmed_bytes", unconfirmed)
        carriage.collect()
        return board.get("headwater_lsn_behind_bytes")

    assert look(1_000, 100) == {("kafka",): 100, ("bronze",): 100}
    kafka.at[("hw.public.orders", 1)] = 20
    state.complete_lsn = Lsn(1_450)
    # Silver has events that the slot has not confirmed yet, so Kafka has them, too.
    assert look(1_500, 200) == {("kafka",): 50, ("bronze",): 600, ("silver",): 50}
    tables = board.get("headwater_table_lsn_behind_bytes")
    assert (tables[("orders", "bronze")], tables[("tags", "bronze")]) == (600, 50)
    assert tables[("orders", "silver")] == 50
    kafka.stored[("hw.public.orders", 1)] = 20
    assert look(1_500, 0) == {("kafka",): 0, ("bronze",): 0, ("silver",): 50}


def test_the_time_until_the_slots_limit_follows_its_growth() -> None:
    clock = Clock()
    source = SourceCollector(SourceSession(""), "headwater", Board(), clock=clock)
    assert source._seconds_until(1_000, 100) == float("inf")
    clock.now = 10
    assert source._seconds_until(1_000, 200) == 80  # 10 a second, 800 left
    clock.now = GROWTH_WINDOW_S + 100
    assert source._seconds_until(1_000, 200) == float("inf")


def test_objects_are_counted_in_their_layers(tmp_path: Path) -> None:
    sizes = {
        "silver/orders/part-1.parquet": 100,
        "silver/orders/_delta_log/00.json": 7,
        "silver/sales__x/part-2.parquet": 50,
        "ops/ledger/part-3.parquet": 5,
        "contracts/public.orders/000002.json": 3,
        "contracts/sales.x/000001.json": 3,
        "checkpoints/x": 1,
    }
    for name, size in sizes.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    found = Inventory()
    for name, size in folder_listing(tmp_path):
        found.add("lake", name, size)
    assert dict(found.size) == {
        "silver": 150,
        "silver_log": 7,
        "ops": 5,
        "contracts": 6,
        "other": 1,
    }
    assert dict(found.log_size) == {"orders": 7}
    assert found.contract == {"orders": 2, "sales__x": 1}


def test_a_stopped_table_is_as_far_as_its_own_row_says() -> None:
    def row(
        table: str, second: int, offset: int, lsn: int, state: str = "running"
    ) -> dict[str, Any]:
        return {
            "table_name": table,
            "merged_at": datetime(2026, 1, 1, 0, 0, second, tzinfo=timezone.utc),
            "offsets": json.dumps({"hw.public.orders": {"0": offset}}),
            "complete_lsn": lsn,
            "state": state,
        }

    def take(state: SilverState, *rows: dict[str, Any]) -> dict[tuple[str, int], int]:
        state.apply(pa.Table.from_pylist(list(rows)))
        return state.table_positions()

    place = ("hw.public.orders", 0)
    state = SilverState(Lake(STORE), lambda table: 60.0)
    assert take(state, row("orders", 1, 10, 100), row("", 1, 10, 100)) == {place: 10}
    stopped = row("orders", 2, 12, 110, "stopped")
    assert take(state, stopped, row("", 2, 20, 200)) == {place: 12}
    assert (state.complete_lsn, state.complete_lsn_of("orders", Lsn(200))) == (200, 110)
    assert set(state.stopped()) == {"orders"}
    assert state.merged_at(place, 19) is not None
    assert take(state, row("orders", 3, 30, 300), row("", 3, 30, 300)) == {place: 30}
    assert state.complete_lsn_of("orders", Lsn(300)) == 300
    assert state.stopped() == {}


def test_a_tables_target_comes_from_its_contract(tmp_path: Path) -> None:
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    for folder, name, text in [
        (own, "public.orders", 'freshness = "2min"'),
        (shipped, "public.orders", 'freshness = "5s"'),
        (shipped, "sales.items", 'freshness = "500ms"'),
        (shipped, "public.odd", "freshness = 5"),
        (shipped, "public.broken", "= ="),
    ]:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.toml").write_text(text)
    target_s = Contracts([own, shipped]).target_s
    assert target_s("orders") == 120
    assert target_s("sales__items") == 0.5
    assert [target_s(name) for name in ("odd", "broken", "none")] == [TARGET_S] * 3


def test_a_changed_contract_file_counts_half_a_minute_later(tmp_path: Path) -> None:
    file = tmp_path / "public.orders.toml"
    file.write_text('freshness = "5s"')
    clock = Clock()
    contracts = Contracts([tmp_path], clock=clock)
    assert contracts.target_s("orders") == 5
    file.write_text('freshness = "7.5s"')
    assert contracts.target_s("orders") == 5
    clock.now = REFRESH_S + 1
    assert contracts.target_s("orders") == 7.5


def test_a_family_of_processes_is_found_through_its_children() -> None:
    assert family(1, {1: [2, 3], 3: [4], 9: [10]}) == [1, 2, 3, 4]
    assert families()


def test_the_exporter_sees_that_others_are_being_started(tmp_path: Path) -> None:
    def seen(**states: str) -> bool:
        services = {name: {"state": state} for name, state in states.items()}
        (tmp_path / "state.json").write_text(json.dumps({"services": services}))
        return others_start(tmp_path, "metrics")

    assert not others_start(tmp_path, "metrics")
    assert seen(silver="starting", metrics="starting")
    assert seen(trino="preparing", metrics="starting")
    assert not seen(silver="ready", store="completed", metrics="starting", prometheus="waiting")

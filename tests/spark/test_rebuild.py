"""A silver table rebuilt from bronze has the source's rows, even after interruptions, and continues."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from spark_streaming.batch.rebuild_state import RebuildStore
from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import RawEvent
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.kafka_source import ExpiredError
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import MergeEngine
from spark_streaming.tables.engines.delta_rs import DeltaRsEngine
from spark_streaming.tables.silver_table import SilverTable
from tests.spark.rebuilding import SOON_S, Cuts, Rebuilding, RebuiltShop, world_of
from tests.spark.shop import POSITIVE, Shop
from tests.spark.test_stopped import HURT, WELL, Killed, assert_like_the_sources
from tests.support.bronze import write
from tests.support.waiting import until
from tests.unit.model import BAG, KEYED


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_streaming.batch.table_steps.RETRY_PAUSES_S", ())
    monkeypatch.setattr("spark_streaming.batch.silver_rebuild.TIDY_COMMITS", 3)
    monkeypatch.setattr("spark_streaming.ops.stopped.BACKOFF_S_MIN", 0.0)
    monkeypatch.setattr("spark_streaming.batch.swap.CHECK_EVERY_S", 0.0)


@pytest.fixture
def engine() -> MergeEngine:
    """delta-rs merges the table that is built aside, whichever engine the job has."""
    return DeltaRsEngine()


contracts = pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])


@contracts
def test_damaged_table_is_made_again_while_the_stream_goes_on(
    lake: Lake, seed: int, contract: Contract
) -> None:
    world = world_of(lake, Random(seed), contract)
    world.run_batches(4)
    world.fill_bronze()
    world.damage()
    world.build()
    versions = world.lake.table(f"silver/{world.silver_name}").version()
    take_over(world)
    told = world.ledger(HURT)
    assert {row["generation"] for row in told} == {None, world.state.id}
    assert told[-1]["delta_version"] > versions
    # The next batch removes the table that was built aside, and the request.
    until(
        lambda: world.run() and not world.store.asked() and not world.store.of(world.silver_name),
        within_s=SOON_S,
        what="the rebuild removed",
    )


@contracts
@pytest.mark.parametrize("repeat", range(2))
def test_rebuild_cut_at_any_step_ends_in_the_sources_rows(
    lake: Lake, seed: int, contract: Contract, repeat: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(f"{seed} {repeat}")
    world = world_of(lake, random, contract, evenly=False)
    cuts = Cuts(random, monkeypatch)
    while not world.log or random.random() < 0.6:
        world.run()
        if random.random() < 0.4:
            world.fill_bronze()
    world.fill_bronze()
    if world.ledger(HURT) and random.random() < 0.7:
        world.damage()
    cuts.on(RebuildStore, "keep")
    cuts.on(DeltaRsEngine, "merge")
    _until_it_ends(world.build)
    cuts.off()
    while random.random() < 0.6:
        world.run()  # silver's table is then ahead of the rebuilt one
    world.store.ask(world.state)
    # A process may be of another release, so nothing may depend on its limits.
    monkeypatch.setattr("spark_streaming.batch.resumption.SLICE_OFFSETS_MAX", random.randint(1, 12))
    for place, name in (
        ("spark_streaming.ops.ledger.Ledger", "append"),
        ("spark_streaming.ops.ledger.Ledger", "note"),
        ("spark_streaming.tables.silver_table.SilverTable", "replace_rows"),
        ("spark_streaming.batch.swap", "resolve_entries"),
    ):
        cuts.on(place, name)
    cuts.on(DeltaRsEngine, "merge")
    world.run_all()
    cuts.off()
    world.await_rebuilt()
    assert_like_the_sources(world)
    assert {row["state"] for row in world.ledger(WELL)} == {"running"}


def test_what_silver_had_beyond_the_rebuild_is_merged_again_after_a_restart(
    lake: Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = built_world(lake, seed, batches=3)
    world.run_batches(4)
    world.store.ask(world.state)
    whole, killed = Ledger.note, list[str]()

    def note(ledger: Ledger, rows: Sequence[LedgerRow]) -> None:
        whole(ledger, rows)
        if rows[0].generation == world.state.id and not killed:
            killed.append(rows[0].table_name)
            raise Killed

    monkeypatch.setattr(Ledger, "note", note)
    world.await_rebuilt()
    world.run_all()
    assert killed == [world.silver_name], "nothing was to be caught up with"
    assert_like_the_sources(world)


def test_swap_that_was_cut_is_known_from_the_ledger_alone(
    lake: Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = built_world(lake, seed, batches=2)
    world.run_batches(2)
    world.store.ask(world.state)
    swapped, killed = threading.Event(), list[str]()
    replace_rows, asked, append = SilverTable.replace_rows, RebuildStore.asked, Ledger.append

    def swap(table: SilverTable, *arguments: Any) -> int:
        version = replace_rows(table, *arguments)
        swapped.set()
        return version

    def cut(ledger: Ledger, rows: Sequence[LedgerRow], batch_id: int) -> None:
        if not killed and any(row.planned and row.state == "resuming" for row in rows):
            assert swapped.wait(SOON_S)
            killed.append("before the batch was in the ledger")
            raise Killed
        append(ledger, rows, batch_id)

    def away(store: RebuildStore) -> list[tuple[str, str]]:
        if killed and world.batches[HURT]:
            raise OSError("the requests cannot be listed")
        return asked(store)

    monkeypatch.setattr(SilverTable, "replace_rows", swap)
    monkeypatch.setattr(Ledger, "append", cut)
    monkeypatch.setattr(RebuildStore, "asked", away)
    world.run_all()
    world.await_rebuilt()
    assert killed
    assert_like_the_sources(world)


def test_slices_after_a_swap_are_not_taken_for_those_of_an_earlier_stop(
    lake: Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = built_world(lake, seed, batches=2)
    world.hurt("before")
    world.run_batches(4)
    assert world.is_stopped()
    world.hurt(None)
    world.run()
    assert not world.is_stopped(), "it has caught up, in slices of its own"
    monkeypatch.setattr("spark_streaming.batch.resumption.SLICE_OFFSETS_MAX", 3)
    take_over(world)


def test_stopped_table_whose_events_kafka_has_dropped_is_repaired(lake: Lake, seed: int) -> None:
    world = world_of(lake, Random(seed), BAG)
    world.run()
    world.hurt("before")
    world.run_batches(4)
    world.fill_bronze()
    dropped = dict(world.in_bronze)
    whole = world.read

    def read(span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[RawEvent]]:
        for partition, start in span.start.get(world.topic(HURT), {}).items():
            if start < dropped.get(partition, 0):
                raise ExpiredError(
                    "Kafka has dropped events that silver has not merged", span.start
                )
        return whole(span)

    world.job.stopped._read = read
    world.hurt(None)
    world.run()
    assert world.is_stopped()
    assert "Kafka has dropped events" in world.ledger(HURT)[-1]["reason"]
    world.build()
    take_over(world)


def test_rebuild_that_is_not_whole_is_refused_and_the_table_goes_on(lake: Lake, seed: int) -> None:
    world = world_of(lake, Random(seed), KEYED)
    world.run()
    world.fill_bronze()
    world.builder()
    world.store.keep(world.state)
    world.store.ask(world.state)
    world.run_all()
    refusal = world.store.refusal(world.state.id)
    assert refusal == "its folder is missing, or it is not complete"
    assert world.store.asked() == []
    assert {row["state"] for row in world.ledger(HURT)} == {"running"}
    assert world.rows(HURT) == world.sources[HURT].content()


def test_entries_of_quarantine_that_no_longer_apply_are_closed_and_others_made(
    shop: Shop,
) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, 5), shop.event("c", 11, 2, -7), shop.event("c", 12, 3, -8))
    shop.run(shop.event("u", 20, 1, -5), shop.event("u", 21, 3, 8), shop.event("c", 22, 4, 100))
    assert shop.rows() == {1: (5, "b"), 3: (8, "b"), 4: (100, "b")}
    shop.contract("[columns.v]\nmin = -6\nmax = 50\n")
    RebuiltShop(shop).run()
    assert shop.rows() == {1: (-5, "b"), 3: (8, "b")}
    assert shop.quarantined() == [
        (2, "v_range", "open"),
        (3, "v_range", "superseded"),
        (4, "v_range", "replayed"),
        (6, "v_range", "open"),
    ]
    shop.run(shop.event("u", 40, 2, 1), shop.event("u", 41, 4, 2))
    assert shop.rows() == {1: (-5, "b"), 2: (1, "b"), 3: (8, "b"), 4: (2, "b")}
    assert {status for _, _, status in shop.quarantined()} == {"superseded", "replayed"}


def test_event_beyond_the_rebuild_is_judged_once_more(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, 5))
    late = shop.event("c", 20, 2, -1), shop.event("c", 21, 3, 3)
    RebuiltShop(shop).run(between=lambda: shop.run(*late))
    assert shop.rows() == {1: (5, "b"), 3: (3, "b")}
    assert shop.quarantined() == [(2, "v_range", "open")]


def test_event_that_was_replayed_is_out_again_under_stricter_rules(shop: Shop) -> None:
    shop.contract(POSITIVE)
    shop.run(shop.event("c", 10, 1, -5), shop.event("c", 11, 2, 1))
    shop.contract("")
    assert shop.outcomes(shop.ask()) == [(1, "replayed")]
    assert shop.rows() == {1: (-5, "b"), 2: (1, "b")}
    shop.contract(POSITIVE)
    RebuiltShop(shop).run()
    assert shop.rows() == {2: (1, "b")}
    assert shop.quarantined() == [(1, "v_range", "open")]


def test_mask_that_was_added_later_holds_for_old_rows_after_a_rebuild(shop: Shop) -> None:
    shop.run(shop.event("c", 10, 1, 5, "secret"), shop.event("c", 11, 2, 5, "open"))
    shop.contract('[columns.big]\nmask = "redact"\n')
    shop.run(shop.event("u", 20, 2, 6, "new"))
    assert shop.rows()[1] == (5, "secret")
    RebuiltShop(shop).run()
    rows = shop.rows()
    assert rows[1][1] == rows[2][1] != "secret"


def test_bronze_is_read_from_any_offset_on_and_each_event_once(lake: Lake, seed: int) -> None:
    random = Random(seed)
    files = lake.below(f"bronze-{uuid.uuid4().hex[:8]}").filesystem()
    offsets = sorted(random.sample(range(2, 45_000), 300))
    headers = [("name", b"\xff")]
    events = [RawEvent("hw.a.b", 0, o, o, b"k", None if o % 2 else b"v", headers) for o in offsets]
    write(files, events, 20)
    bronze, gaps = Bronze(files), list[tuple[int, int]]()
    for start in (0, offsets[150], offsets[150] + 1, offsets[-1], 44_999, 50_000):
        found = list(bronze.events("hw.a.b", 0, start, lambda p, a, b: gaps.append((a, b))))
        assert found == [event for event in events if event.offset >= start]
    assert gaps[0] == (0, offsets[0] - 1)


def take_over(world: Rebuilding) -> None:
    """Check that the job swaps in the rebuilt table, and that both tables have their source's rows."""
    world.store.ask(world.state)
    world.run_all()
    world.await_rebuilt()
    assert_like_the_sources(world)


def built_world(lake: Lake, seed: int, *, batches: int) -> Rebuilding:
    """Tables without a key, one of which is rebuilt after this many batches."""
    world = world_of(lake, Random(seed), BAG)
    world.run_batches(batches)
    world.fill_bronze()
    world.build()
    return world


def _until_it_ends(work: Callable[[], None]) -> None:
    for _ in range(200):
        try:
            return work()
        except Killed:
            continue
    raise AssertionError("it never ended")

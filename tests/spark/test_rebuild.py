"""A silver table made again from bronze has the source's rows, whatever was cut, and goes on."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from spark_streaming.bronze import Bronze, Feed
from spark_streaming.contract import Contract
from spark_streaming.engines.delta_rs import DeltaRsEngine
from spark_streaming.events import RawEvent
from spark_streaming.kafka_source import ExpiredError
from spark_streaming.lake import Lake
from spark_streaming.ledger import Ledger, LedgerRow
from spark_streaming.offsets import BatchSpan
from spark_streaming.quality import ContractFolder
from spark_streaming.rebuild import Builder
from spark_streaming.rebuild_state import Rebuild, RebuildStore
from spark_streaming.swap import Swaps
from spark_streaming.table import SilverTable
from tests.spark.shop import POSITIVE, Shop
from tests.spark.test_batch import NO_SOURCE, Job
from tests.spark.test_stopped import HURT, WELL, Engine, Killed, World
from tests.support.bronze import write
from tests.support.waiting import until
from tests.unit.model import BAG, KEYED

SOON_S = 60.0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_streaming.batch.RETRY_PAUSES_S", ())
    monkeypatch.setattr("spark_streaming.rebuild.RETRY_PAUSES_S", ())
    monkeypatch.setattr("spark_streaming.rebuild.TIDY_COMMITS", 3)
    monkeypatch.setattr("spark_streaming.stopped.BACKOFF_S_MIN", 0.0)
    monkeypatch.setattr("spark_streaming.swap.LOOK_EVERY_S", 0.0)


class Rebuilding(World):
    """The world of two tables, whose events stand in bronze too; `hurt` is built again."""

    def __init__(self, lake: Lake, random: Random, contract: Contract, partitions: int) -> None:
        self.partitions = partitions
        self.bronze_files = lake.below(f"bronze-{uuid.uuid4().hex[:8]}").filesystem()
        self.in_bronze: dict[int, int] = {}
        super().__init__(lake, random, contract, partitions)
        self.store = RebuildStore(lake)
        self.state = self.new_rebuild()

    @property
    def silver_name(self) -> str:
        return f"{self.schema}__{HURT}"

    def new_rebuild(self) -> Rebuild:
        name = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        return Rebuild(name, self.silver_name, self.schema, HURT, self.topic(HURT))

    def restart(self) -> Job:
        job = Job(self.lake, self.query_id, Engine(lambda n: self.breaks(n)), self.read)
        job.runner._stopped._swaps = Swaps(self.lake, job.topics, job.quarantine)
        self.job = job
        return job

    def run(self) -> list[LedgerRow]:
        span, events = self.plan()
        for _ in range(50):
            try:
                self.job.runner.begin(self.batch_id, span)
                return self.job.runner.run(
                    self.batch_id, events, span, saw_all=True, started=time.monotonic()
                )
            except Killed:
                self.restart()
        raise AssertionError("the batch never ended")

    def fill_bronze(self) -> None:
        """Bronze gets what the topic has had since."""
        topic = self.topic(HURT)
        for partition in range(self.partitions):
            events = [e for e in self.log if (e.topic, e.partition) == (topic, partition)]
            fresh = [e for e in events if e.offset >= self.in_bronze.get(partition, 0)]
            if fresh:
                write(self.bronze_files, fresh, self.random.randint(1, 9))
                self.in_bronze[partition] = fresh[-1].offset + 1

    def feed(self, state: Rebuild) -> Feed:
        def never(partition: int, first: int, last: int) -> None:
            raise AssertionError(f"offsets {first} to {last} of {partition} are missing")

        bronze, topic = Bronze(self.bronze_files), self.topic(HURT)
        return Feed(
            {
                number: bronze.events(topic, number, state.offsets.get(number, 0), never)
                for number in bronze.partitions(topic)
            }
        )

    def builder(self) -> Builder:
        builder = Builder(
            self.lake,
            self.store.state(self.silver_name, self.state.id) or self.state,
            ContractFolder(),
            NO_SOURCE,
            prefix="hw",
            slice_events_max=self.random.randint(1, 25),
        )
        builder.begin()
        return builder

    def build(self, builder: Builder | None = None) -> None:
        builder = builder or self.builder()
        builder.run(self.feed(builder.state))
        self.state = builder.finished()

    def is_rebuilt(self) -> bool:
        last = self.ledger(HURT)[-1]
        return bool(last["generation"] == self.state.id and last["state"] == "running")

    def await_rebuilt(self) -> None:
        """Batches go on until the table runs, with what was built in silver's place."""

        def ran() -> bool:
            self.run()
            return self.is_rebuilt()

        until(ran, within_s=SOON_S, what="the rebuilt table runs")

    def damage(self) -> None:
        silver = self.lake.table(f"silver/{self.silver_name}")
        silver.update(updates={"note": "'forged'"})
        silver.delete("id = 1")


def world_of(lake: Lake, random: Random, contract: Contract, *, evenly: bool = True) -> Rebuilding:
    """A world whose tables have something new in each of their eight batches, if `evenly`."""
    world = Rebuilding(lake, random, contract, 1 if contract.is_bag else 2)
    for batches in world.batches.values() if evenly else ():
        events = [event for batch in batches for event in batch]
        batches[:] = [events[len(events) * i // 8 : len(events) * (i + 1) // 8] for i in range(8)]
    return world


contracts = pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])


@contracts
def test_damaged_table_is_made_again_while_the_stream_goes_on(
    lake: Lake, seed: int, contract: Contract
) -> None:
    world = world_of(lake, Random(seed), contract)
    for _ in range(4):
        world.run()
    world.fill_bronze()
    world.damage()
    world.build()
    versions = world.lake.table(f"silver/{world.silver_name}").version()
    world.store.ask(world.state)
    world.run_all()
    world.await_rebuilt()
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name
    told = world.ledger(HURT)
    assert {row["generation"] for row in told} == {None, world.state.id}
    assert told[-1]["delta_version"] > versions
    # What was built aside is gone with the next batch, and so is the request.
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
        world.run()  # what silver has is ahead of what was built, then
    world.store.ask(world.state)
    # A process may be of another release: nothing may rest on its limits.
    monkeypatch.setattr("spark_streaming.resume.SLICE_OFFSETS_MAX", random.randint(1, 12))
    for place, name in (
        ("spark_streaming.ledger.Ledger", "append"),
        ("spark_streaming.ledger.Ledger", "note"),
        ("spark_streaming.table.SilverTable", "replace_rows"),
        ("spark_streaming.swap", "settle"),
    ):
        cuts.on(place, name)
    cuts.on(DeltaRsEngine, "merge")
    world.run_all()
    cuts.off()
    world.await_rebuilt()
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name
    assert {row["state"] for row in world.ledger(WELL)} == {"running"}


def test_what_silver_had_beyond_the_rebuild_is_merged_again_after_a_restart(
    lake: Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(lake, Random(seed), BAG)
    for _ in range(3):
        world.run()
    world.fill_bronze()
    world.build()
    for _ in range(4):
        world.run()
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
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name


def test_swap_that_was_cut_is_known_from_the_ledger_alone(
    lake: Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(lake, Random(seed), BAG)
    for _ in range(2):
        world.run()
    world.fill_bronze()
    world.build()
    for _ in range(2):
        world.run()
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
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name


def test_slices_after_a_swap_are_not_taken_for_those_of_an_earlier_stop(
    lake: Lake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(lake, Random(seed), BAG)
    for _ in range(2):
        world.run()
    world.fill_bronze()
    world.build()
    world.hurt("before")
    for _ in range(4):
        world.run()
    assert world.is_stopped()
    world.hurt(None)
    world.run()
    assert not world.is_stopped(), "it has caught up, in slices of its own"
    monkeypatch.setattr("spark_streaming.resume.SLICE_OFFSETS_MAX", 3)
    world.store.ask(world.state)
    world.run_all()
    world.await_rebuilt()
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name


def test_stopped_table_whose_events_kafka_has_dropped_is_mended(lake: Lake, seed: int) -> None:
    world = world_of(lake, Random(seed), BAG)
    world.run()
    world.hurt("before")
    for _ in range(4):
        world.run()
    world.fill_bronze()
    dropped = dict(world.in_bronze)
    whole = world.read

    def read(span: BatchSpan) -> dict[str, list[RawEvent]]:
        for partition, start in span.start.get(world.topic(HURT), {}).items():
            if start < dropped.get(partition, 0):
                raise ExpiredError("Kafka has dropped events that silver has not merged")
        return whole(span)

    world.job.runner._stopped._read = read
    world.hurt(None)
    world.run()
    assert world.is_stopped()
    assert "Kafka has dropped events" in world.ledger(HURT)[-1]["reason"]
    world.build()
    world.store.ask(world.state)
    world.run_all()
    world.await_rebuilt()
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name


def test_rebuild_that_is_not_whole_is_refused_and_the_table_goes_on(lake: Lake, seed: int) -> None:
    world = world_of(lake, Random(seed), KEYED)
    world.run()
    world.fill_bronze()
    world.builder()
    world.store.keep(world.state)
    world.store.ask(world.state)
    world.run_all()
    refusal = world.store.refusal(world.state.id)
    assert refusal == "what was built aside is not there, or not whole"
    assert world.store.asked() == []
    assert {row["state"] for row in world.ledger(HURT)} == {"running"}
    assert world.rows(HURT) == world.sources[HURT].content()


class RebuiltShop:
    """`items` of a shop, built again from what the shop has sent."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.store = RebuildStore(shop.lake)
        name = f"{shop.schema}__items"
        rebuild_id = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        self.state = Rebuild(rebuild_id, name, shop.schema, "items", f"hw.{shop.schema}.items")

    def run(self) -> None:
        shop = self.shop
        files = ContractFolder([shop.folder], b"secret")
        builder = Builder(shop.lake, self.state, files, NO_SOURCE, prefix="hw", slice_events_max=2)
        builder.begin()
        mine = [event for event in shop.events if event.topic == self.state.topic]
        builder.run(Feed({0: mine}))
        self.store.ask(builder.finished())
        swaps = Swaps(shop.lake, shop.topics, shop.runner.gate.quarantine)
        shop.runner._stopped._swaps = swaps

        def runs_again() -> bool:
            shop.runner.begin(shop.batch, BatchSpan({}, dict(shop.ends)))
            rows = shop.run(shop.event("c", 10_000 + shop.offset, shop.offset, 0, table="parents"))
            return any(r.generation == self.state.id and r.state == "running" for r in rows)

        until(runs_again, within_s=SOON_S, what="the rebuilt table runs")


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


class Cuts:
    """Calls that a process does not survive, some before they have done their work."""

    def __init__(self, random: Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self._random, self._monkeypatch = random, monkeypatch
        self._chance = 0.0

    def on(self, owner: Any, name: str) -> None:
        self._chance = 0.12
        target = f"{owner}.{name}" if isinstance(owner, str) else f"{owner.__module__}."
        if not isinstance(owner, str):
            target += f"{owner.__qualname__}.{name}"
        whole = _found(target)

        def cut(*arguments: Any, **options: Any) -> Any:
            drawn = self._random.random()
            if drawn < self._chance:
                raise Killed
            result = whole(*arguments, **options)
            if drawn < 2 * self._chance:
                raise Killed
            return result

        self._monkeypatch.setattr(target, cut)

    def off(self) -> None:
        self._chance = 0.0


def _found(target: str) -> Callable[..., Any]:
    import importlib

    path, _, name = target.rpartition(".")
    try:
        owner: Any = importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, kind = path.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    found = getattr(owner, name)
    assert callable(found)
    return found


def _until_it_ends(work: Callable[[], None]) -> None:
    for _ in range(200):
        try:
            return work()
        except Killed:
            continue
    raise AssertionError("it never ended")

"""Two tables with events in bronze, one of which is rebuilt; and crashes during the rebuild."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from spark_streaming.batch.rebuild_state import Rebuild, RebuildStore
from spark_streaming.batch.silver_rebuild import Builder
from spark_streaming.batch.swap import Swaps
from spark_streaming.contract.contract import Contract
from spark_streaming.ops.ledger import LedgerRow
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.storage.lake import Lake
from tests.spark.shop import Shop
from tests.spark.test_batch import NO_SOURCE, Job
from tests.spark.test_stopped import HURT, Engine, Killed, World
from tests.support.bronze import write
from tests.support.waiting import until

SOON_S = 60.0


class Rebuilding(World):
    """A job with two tables whose events are also in bronze; `hurt` is rebuilt."""

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
        job.stopped._swaps = Swaps(self.lake, job.topics, job.quarantine)
        self.job = job
        return job

    def run(self) -> list[LedgerRow]:
        span, events = self.plan()
        for _ in range(50):
            try:
                self.job.runner.begin(self.batch_id, span)
                return self.job.runner.run(self.batch_id, events, span, started=time.monotonic())
            except Killed:
                self.restart()
        raise AssertionError("the batch never ended")

    def fill_bronze(self) -> None:
        """Write the topic's newer events to bronze."""
        topic = self.topic(HURT)
        for partition in range(self.partitions):
            events = [e for e in self.log if (e.topic, e.partition) == (topic, partition)]
            fresh = [e for e in events if e.offset >= self.in_bronze.get(partition, 0)]
            if fresh:
                write(self.bronze_files, fresh, self.random.randint(1, 9))
                self.in_bronze[partition] = fresh[-1].offset + 1

    def feed(self, state: Rebuild) -> EventsByTime:
        def never(partition: int, first: int, last: int) -> None:
            raise AssertionError(f"offsets {first} to {last} of {partition} are missing")

        bronze, topic = Bronze(self.bronze_files), self.topic(HURT)
        return EventsByTime(
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
        """Run batches until the table runs and its rebuilt version has replaced the old one."""

        def ran() -> bool:
            self.run()
            return self.is_rebuilt()

        until(ran, within_s=SOON_S, what="the rebuilt table runs")

    def damage(self) -> None:
        silver = self.lake.table(f"silver/{self.silver_name}")
        silver.update(updates={"note": "'forged'"})
        silver.delete("id = 1")


def world_of(lake: Lake, random: Random, contract: Contract, *, evenly: bool = True) -> Rebuilding:
    """A job whose tables have new events in each of eight batches, if `evenly`."""
    world = Rebuilding(lake, random, contract, 1 if contract.is_keyless else 2)
    for batches in world.batches.values() if evenly else ():
        events = [event for batch in batches for event in batch]
        batches[:] = [events[len(events) * i // 8 : len(events) * (i + 1) // 8] for i in range(8)]
    return world


class RebuiltShop:
    """Rebuild `items` of a shop from the shop's events."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.store = RebuildStore(shop.lake)
        name = f"{shop.schema}__items"
        rebuild_id = f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        self.state = Rebuild(rebuild_id, name, shop.schema, "items", f"hw.{shop.schema}.items")

    def run(self, between: Callable[[], object] = lambda: None) -> None:
        """Rebuild the table, call `between`, and let the job swap it in."""
        shop = self.shop
        files = ContractFolder([shop.folder], b"secret")
        builder = Builder(shop.lake, self.state, files, NO_SOURCE, prefix="hw", slice_events_max=2)
        builder.begin()
        mine = [event for event in shop.events if event.topic == self.state.topic]
        builder.run(EventsByTime({0: mine}))
        state = builder.finished()
        between()
        self.store.ask(state)
        swaps = Swaps(shop.lake, shop.topics, shop.runner.steps.gate.quarantine)
        shop.stopped._swaps = swaps

        def runs_again() -> bool:
            shop.runner.begin(shop.batch, BatchSpan({}, dict(shop.ends)))
            rows = shop.run(shop.event("c", 10_000 + shop.offset, shop.offset, 0, table="parents"))
            return any(r.generation == self.state.id and r.state == "running" for r in rows)

        until(runs_again, within_s=SOON_S, what="the rebuilt table runs")


class Cuts:
    """Calls at which the process dies, some before they have done their work."""

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
    path, _, name = target.rpartition(".")
    try:
        owner: Any = importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, kind = path.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    found = getattr(owner, name)
    assert callable(found)
    return found

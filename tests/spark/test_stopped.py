"""A failing table never stops another, and the events that it missed are merged once."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from spark_streaming.batch.failed_parts import BatchFailedError
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.events.event import RawEvent
from spark_streaming.events.position import HighWater
from spark_streaming.ops.ledger import LedgerRow
from spark_streaming.ops.stopped import stop_table
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from tests.spark.test_batch import NO_SOURCE, Job, ledger_table
from tests.unit.model import BAG, KEYED, Source

HURT, WELL = "hurt", "well"


class Killed(BaseException):
    """Simulates the death of the process."""


class Engine(ArrowEngine):
    """Merges tables, but raises before or after the commit of those that `breaks` names."""

    def __init__(self, breaks: Callable[[str], str | None]) -> None:
        super().__init__()
        self._breaks = breaks

    def merge(self, table: Any, folded: Any, commit: Any) -> Any:
        how = self._breaks(table.name)
        if how == "before":
            raise RuntimeError("this table cannot be written")
        result = super().merge(table, folded, commit)
        if how == "after":
            table.forget()
            raise RuntimeError("nobody knows whether it was written")
        if how == "killed":
            raise Killed
        return result


class World:
    """Two tables in a schema of their own with random histories, their topics, and one query."""

    def __init__(self, lake: Lake, random: Random, contract: Contract, partitions: int) -> None:
        self.lake, self.random = lake, random
        self.schema, self.query_id = f"s{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        self.sources, self.batches, self.log = {}, {}, list[RawEvent]()
        self.ends: dict[str, dict[int, int]] = {}
        self.batch_id = -1
        for name in (HURT, WELL):
            kept = replace(contract, schema=self.schema, table=name)
            ContractStore(lake, NO_SOURCE).keep(kept)
            # Large values may be missing if partitions are read separately: see Known limits.
            source = Source(random, contract, partitions, toast=partitions == 1)
            for _ in range(20):
                source.step()
            source.snapshot(first=True)
            for _ in range(120):
                source.step()
                if random.random() < 0.3:
                    source.send()
            events = [e._replace(topic=self.topic(name)) for e in source.finish()]
            self.sources[name] = source
            cuts = sorted(random.randint(0, len(events)) for _ in range(7))
            borders = pairwise([0, *cuts, len(events)])
            self.batches[name] = [events[begin:end] for begin, end in borders]
        self.breaks: Callable[[str], str | None] = lambda name: None
        self.job = self.restart()

    def topic(self, table: str) -> str:
        return f"hw.{self.schema}.{table}"

    def restart(self) -> Job:
        self.job = Job(self.lake, self.query_id, Engine(lambda n: self.breaks(n)), self.read)
        return self.job

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[RawEvent]]:
        found: dict[str, list[RawEvent]] = {}
        for event in self.log:
            start = span.start.get(event.topic, {}).get(event.partition, 0)
            if start <= event.offset < span.end.get(event.topic, {}).get(event.partition, 0):
                found.setdefault(event.topic, []).append(event)
        return found

    def plan(self) -> tuple[BatchSpan, dict[str, list[RawEvent]]]:
        """Run the next batch: the events since the last one, perhaps none."""
        self.batch_id += 1
        start = {topic: dict(ends) for topic, ends in self.ends.items()}
        events: dict[str, list[RawEvent]] = {}
        for name, batches in self.batches.items():
            topic = self.topic(name)
            for event in batches.pop(0) if batches else []:
                events.setdefault(topic, []).append(event)
                self.log.append(event)
                self.ends.setdefault(topic, {})[event.partition] = event.offset + 1
        return BatchSpan(start, {t: dict(e) for t, e in self.ends.items()}), events

    def run(self) -> list[LedgerRow]:
        """Run the next batch; a new process repeats it each time one is killed."""
        span, events = self.plan()
        for _ in range(50):
            try:
                return self.job.runner.run(self.batch_id, events, span, started=time.monotonic())
            except Killed:
                self.restart()
        raise AssertionError("the batch never ended")

    def run_all(self) -> None:
        while any(self.batches.values()):
            self.run()

    def run_batches(self, count: int) -> None:
        for _ in range(count):
            self.run()

    def is_stopped(self) -> bool:
        return self.job.stopped.is_stopped(self.topic(HURT))

    def rows(self, table: str) -> Counter[tuple[Any, ...]]:
        path = f"silver/{self.schema}__{table}"
        found = self.lake.table(path).to_pyarrow_table(columns=["id", "note", "big"])
        return Counter(tuple(row.values()) for row in found.to_pylist())

    def ledger(self, table: str) -> list[dict[str, Any]]:
        rows = ledger_table(self.lake).sort_by("merged_at").to_pylist()
        name = f"{self.schema}__{table}"
        return [r for r in rows if r["query_id"] == self.query_id and r["table_name"] == name]

    def hurt(self, how: str | None) -> None:
        self.breaks = lambda name: how if name.endswith(HURT) else None


def assert_like_the_sources(world: World) -> None:
    """Check that silver has exactly the rows of both source tables."""
    for name in (HURT, WELL):
        assert world.rows(name) == world.sources[name].content(), name


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_streaming.batch.table_steps.RETRY_PAUSES_S", ())
    monkeypatch.setattr("spark_streaming.ops.stopped.BACKOFF_S_MIN", 0.0)


@pytest.fixture(params=["keyed", "bag"])
def world(request: pytest.FixtureRequest, lake: Lake, seed: int) -> Iterator[World]:
    keyed = request.param == "keyed"
    yield World(lake, Random(seed), KEYED if keyed else BAG, 2 if keyed else 1)


def test_others_go_on_while_a_table_is_stopped_and_it_catches_up_when_it_is_repaired(
    world: World,
) -> None:
    world.hurt("before")
    world.run_all()
    world.run()
    assert world.is_stopped()
    assert world.rows(WELL) == world.sources[WELL].content()
    last, other = world.ledger(HURT)[-1], world.ledger(WELL)[-1]
    assert (last["state"], other["state"]) == ("stopped", "running")
    assert last["reason"] == "RuntimeError: this table cannot be written"
    assert last["stopped_at"] == world.ledger(HURT)[0]["stopped_at"]
    assert last["tries"] > 1
    assert last["complete_lsn"] == world.ledger(HURT)[0]["complete_lsn"]
    world.hurt(None)
    [row] = [r for r in world.run() if r.table_name.endswith(HURT)]
    assert (row.state, row.reason, row.complete_lsn) == (
        "running",
        None,
        world.ledger(HURT)[-1]["complete_lsn"],
    )
    assert not world.is_stopped()
    assert world.rows(HURT) == world.sources[HURT].content()


def test_stopped_table_is_stopped_still_after_a_restart_and_goes_on_from_its_offset(
    world: World,
) -> None:
    world.run()
    world.hurt("before")
    world.run_all()
    world.hurt(None)
    world.restart()
    world.run()
    assert not world.is_stopped()
    assert world.rows(HURT) == world.sources[HURT].content()


@pytest.mark.parametrize("repeat", range(3))
@pytest.mark.parametrize("contract", [KEYED, BAG], ids=["keyed", "bag"])
def test_random_failures_and_kills_lose_and_repeat_nothing(
    lake: Lake,
    seed: int,
    contract: Contract,
    repeat: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(f"{seed} {repeat}")
    world = World(lake, random, contract, 1 if contract.is_keyless else 1 + repeat % 2)
    chances = random.choice([(0.3, 0.3, 0.2), (0.0, 0.4, 0.3), (0.5, 0.0, 0.2)])

    def breaks(name: str) -> str | None:
        if not name.endswith(HURT):
            return None
        drawn = random.random()
        for how, chance in zip(("before", "after", "killed"), chances, strict=True):
            if drawn < chance:
                return how
            drawn -= chance
        return None

    def dying(write: Callable[..., None]) -> Callable[..., None]:
        def written(*arguments: Any) -> None:
            drawn = random.random()
            if drawn < 0.1:
                raise Killed
            write(*arguments)
            if drawn < 0.2:
                raise Killed

        return written

    def restart() -> Job:
        # A new process may be of another release, so nothing may depend on its limits.
        monkeypatch.setattr(
            "spark_streaming.batch.resumption.SLICE_OFFSETS_MAX", random.randint(1, 12)
        )
        job = Job(lake, world.query_id, Engine(lambda n: world.breaks(n)), world.read)
        for name in ("append", "note"):
            monkeypatch.setattr(job.ledger, name, dying(getattr(job.ledger, name)))
        world.job = job
        return job

    world.breaks = breaks
    monkeypatch.setattr(world, "restart", restart)
    restart()
    while any(world.batches.values()):
        world.run()
    assert {row["state"] for row in world.ledger(WELL)} <= {"running"}
    world.hurt(None)
    world.run_batches(2)
    assert not world.is_stopped()
    assert_like_the_sources(world)


def test_rule_stops_its_table_before_anything_is_merged_and_a_new_contract_lets_it_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = True
    whole = world.job.runner.steps.prepare

    def prepare(name: str, *arguments: Any) -> Any:
        part = whole(name, *arguments)
        if strict and name == world.topic(HURT):
            stop_table("rule `big_is_known`: 3 rows break it", hint="repair them")
        return part

    monkeypatch.setattr(world.job.runner.steps, "prepare", prepare)
    monkeypatch.setattr("spark_streaming.ops.stopped.BACKOFF_S_MIN", 300.0)
    monkeypatch.setattr("spark_streaming.batch.resumption.CONTRACT_CHECK_S", 0.0)
    world.run_all()
    world.run()
    assert world.rows(HURT) == Counter()
    assert world.rows(WELL) == world.sources[WELL].content()
    assert world.ledger(HURT)[-1]["reason"] == (
        "rule `big_is_known`: 3 rows break it\n  hint: repair them"
    )
    strict = False
    world.run()
    assert world.is_stopped(), "its contract is the same"
    monkeypatch.setattr(world.job.topics, "contract_of", lambda *_, **__: "another")
    world.run()
    assert not world.is_stopped()
    assert world.rows(HURT) == world.sources[HURT].content()


def test_trouble_of_all_tables_stops_none_until_it_has_come_three_times(world: World) -> None:
    world.breaks = lambda name: "before"
    for batches in world.batches.values():
        batches[:] = [[event for batch in batches for event in batch]]
    span, events = world.plan()
    for _ in range(2):
        with pytest.raises(BatchFailedError, match="2 of 2 tables failed"):
            world.job.runner.run(0, events, span, started=time.monotonic())
        assert world.ledger(HURT)[-1]["state"] == "failing"
        world.restart()
    world.job.runner.run(0, events, span, started=time.monotonic())
    assert world.ledger(HURT)[-1]["state"] == "stopped"
    world.breaks = lambda name: None
    world.run()
    assert_like_the_sources(world)


def test_rejects_of_a_stopped_table_are_quarantined_once(world: World) -> None:
    spoilt = RawEvent(world.topic(HURT), 0, 10_000, 0, None, b"not json", [])
    world.batches[HURT].append([spoilt])
    world.hurt("before")
    world.run_all()
    world.run()
    world.hurt(None)
    world.run()
    world.run()
    held = world.lake.table("ops/quarantine").to_pyarrow_table().to_pylist()
    mine = [row for row in held if row["table_name"] == f"{world.schema}__{HURT}"]
    assert [(row["offset"], row["rule"]) for row in mine] == [(10_000, "not-json")]


def test_rejects_that_a_failed_batch_did_not_get_to_know_are_quarantined_when_it_is_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (name, batches) in enumerate(world.batches.items()):
        spoilt = RawEvent(world.topic(name), 0, 10_000 + number, 0, None, b"not json", [])
        batches[:] = [[*(event for batch in batches for event in batch), spoilt]]
    span, events = world.plan()
    whole = world.job.runner.steps.prepare

    def prepare(name: str, *arguments: Any) -> Any:
        if name == world.topic(HURT):
            raise ConnectionResetError("the store went away")
        return whole(name, *arguments)

    with monkeypatch.context() as away:
        away.setattr(world.job.runner.steps, "prepare", prepare)
        with pytest.raises(BatchFailedError, match="1 of 2 tables failed"):
            world.job.runner.run(0, events, span, started=time.monotonic())
    world.restart().runner.run(0, events, span, started=time.monotonic())
    held = world.lake.table("ops/quarantine").to_pyarrow_table().to_pylist()
    mine = [row for row in held if row["table_name"].startswith(world.schema)]
    assert sorted(row["offset"] for row in mine) == [10_000, 10_001]
    assert_like_the_sources(world)


def test_stopped_table_survives_the_shortening_of_the_ledger(world: World) -> None:
    world.hurt("before")
    world.run_all()
    before = world.job.ledger.restore()
    world.job.ledger.compact(world.ledger(WELL)[-1]["merged_at"])
    after = world.job.ledger.restore()
    mine: Callable[[Any], Any] = lambda restored: [  # noqa: E731
        stop for stop in restored.stops if stop.topic == world.topic(HURT)
    ]
    assert mine(after) == mine(before) != []
    assert isinstance(after.high_water, HighWater)
    world.hurt(None)
    world.restart()
    world.run()
    assert world.rows(HURT) == world.sources[HURT].content()

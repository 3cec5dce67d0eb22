"""Of several drivers on one lake only one works; a paused driver commits nothing after the next has begun.

The search runs the real lease on objects in memory, with drivers that are reduced to their reads, checks and
commits in the job's order. At each `yield` a driver may be paused for any time.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from spark_streaming.storage.driver_lease import (
    EXPIRES_S,
    DriverLease,
    Superseded,
    Term,
    process_may_run,
    this_process,
)

BATCHES, TABLES = 2, ("ledger", "orders", "ratings")


class Memory:
    """Terms in memory; a conditional put is one step, like in a store."""

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}

    def newest(self) -> int:
        return max(self.kept, default=0)

    def read(self, epoch: int) -> bytes | None:
        return self.kept.get(epoch)

    def claim(self, epoch: int, content: bytes) -> bool:
        return self.kept.setdefault(epoch, content) is content

    def write(self, epoch: int, content: bytes) -> None:
        self.kept[epoch] = content

    def remove(self, epoch: int) -> None:
        self.kept.pop(epoch, None)


class Refused(Exception):
    """A commit was too late."""


@dataclass(frozen=True)
class Entry:
    """A commit: its driver, and its batch; -1 is a seal, None has no batch."""

    epoch: int
    batch: int | None


@dataclass
class World:
    """The drivers' shared state: terms, tables' logs, and all commits in order."""

    rules: frozenset[str]
    objects: Memory = field(default_factory=Memory)
    logs: dict[str, list[Entry]] = field(default_factory=lambda: {t: [] for t in TABLES})
    now: float = 0.0
    begun: int = 0  # the greatest epoch whose driver has read its state

    def commit(self, table: str, read: int, entry: Entry) -> None:
        """Put the next version; after a lost race, check the commits after its `read`, like Delta."""
        log = self.logs[table]
        for other in log[read:]:
            if other.batch == -1 or (other.batch is not None and other.batch == entry.batch):
                raise Refused
        assert entry.epoch >= self.begun, f"driver {entry.epoch} committed after {self.begun} began"
        log.append(entry)


def driver(world: World) -> Iterator[str]:
    """A driver from its start to its end."""
    lease = DriverLease(
        world.objects, Term("checkpoint"), clock=lambda: world.now, may_run=lambda _: True
    )
    while lease.take():
        world.now += EXPIRES_S / 2
        yield "waits"
    yield "has the lease"
    handles: dict[str, int] = {}

    def opened(table: str) -> Iterator[str]:
        if table not in handles:
            read = len(world.logs[table])
            yield "read"
            if "check" in world.rules:
                lease.check()
            handles[table] = read
            yield "asked"

    if not lease.term.ready and "seal" in world.rules:
        for table in TABLES:
            yield from opened(table)
            world.commit(table, handles.pop(table), Entry(lease.epoch, -1))
            yield "sealed"
    lease.ready()
    yield "ready"
    if world.objects.newest() == lease.epoch:  # a later driver may have begun meanwhile
        world.begun = max(world.begun, lease.epoch)
    merged = {entry.batch for entry in world.logs["ledger"]}
    for batch in range(BATCHES):
        if batch in merged:
            continue
        for table, name in (*((t, batch) for t in TABLES[1:]), ("ledger", None), ("ledger", batch)):
            yield from opened(table)
            known = {entry.batch for entry in world.logs[table][: handles[table]]}
            yield "decided"
            if name is None or name not in known:
                world.commit(table, handles[table], Entry(lease.epoch, name))
                handles[table] = len(world.logs[table])
            yield "committed"
    lease.release()


class Drivers:
    """Runs drivers step by step in any order."""

    def __init__(self, count: int, rules: frozenset[str]) -> None:
        self.world = World(rules)
        self._running = [driver(self.world) for _ in range(count)]
        self.ended: set[int] = set()

    def step(self, number: int) -> None:
        try:
            next(self._running[number])
        except StopIteration:
            self.ended.add(number)
        except (Refused, Superseded):  # the process ends; the supervisor starts the next one
            self._running[number] = driver(self.world)

    def to_the_end(self, number: int) -> None:
        for _ in range(500):
            if number in self.ended:
                return
            self.step(number)
        raise AssertionError(f"driver {number} makes no progress")

    def check(self) -> None:
        for table, log in self.world.logs.items():
            merged = [entry.batch for entry in log if entry.batch not in (None, -1)]
            assert merged == [*range(BATCHES)], f"{table} merged {merged}"


WHOLE = frozenset({"seal", "check"})
STEPS = 40  # more than a driver has


def one_pause(rules: frozenset[str]) -> None:
    """Pause the first driver at each step until the second has reached each of its steps."""
    for first in range(1, STEPS):
        for second in range(STEPS):
            drivers = Drivers(2, rules)
            for number, steps in ((0, first), (1, second)):
                for _ in range(steps):
                    if number not in drivers.ended:
                        drivers.step(number)
            for number in (0, 1):
                drivers.to_the_end(number)
            drivers.check()


def any_order(rules: frozenset[str], chance: random.Random, histories: int) -> None:
    """Run three drivers, each paused anywhere and for any time."""
    for _ in range(histories):
        drivers = Drivers(3, rules)
        while len(drivers.ended) < 3:
            number = chance.choice([n for n in range(3) if n not in drivers.ended])
            for _ in range(chance.choice([1, 1, 3, 20])):
                if number not in drivers.ended:
                    drivers.step(number)
        drivers.check()


def test_wherever_a_driver_is_paused_it_commits_nothing_after_the_next_one_began() -> None:
    one_pause(WHOLE)


def test_three_drivers_paused_anywhere_merge_each_batch_once(seed: int) -> None:
    any_order(WHOLE, random.Random(seed), 400)


@pytest.mark.parametrize("left_out", sorted(WHOLE))
def test_the_search_finds_what_happens_without(left_out: str) -> None:
    with pytest.raises(AssertionError, match="committed after"):
        one_pause(WHOLE - {left_out})


def lease_of(
    objects: Memory,
    clock: Callable[[], float] = lambda: 0.0,
    *,
    runs: bool = True,
    checkpoint: str = "s3a://lake/checkpoint",
) -> DriverLease:
    return DriverLease(objects, Term(checkpoint), clock=clock, may_run=lambda _: runs)


def test_a_driver_waits_while_the_other_renews_and_says_who_that_is() -> None:
    objects, now = Memory(), [0.0]
    first, second = lease_of(objects), lease_of(objects, lambda: now[0])
    assert first.take() == ""
    for _ in range(10):
        assert second.take() == first.term.where
        now[0] += EXPIRES_S - 1
        first.renew()
    assert second.take()
    now[0] += EXPIRES_S
    assert second.take() == ""
    with pytest.raises(Superseded, match="its epoch is 2, this driver's 1"):
        first.renew()
    assert first.lost
    assert [*objects.kept] == [2]


def test_a_released_lease_is_taken_at_once_with_its_checkpoint_and_without_a_seal() -> None:
    objects = Memory()
    first, second = lease_of(objects), lease_of(objects)
    first.take()
    first.release()
    assert second.take() == ""
    assert (second.term.ready, second.term.checkpoint, second.term.copy_of) == (
        True, "s3a://lake/checkpoint", "",
    )  # fmt: skip


def test_a_driver_that_was_not_heard_of_keeps_its_checkpoint_and_the_next_works_on_a_copy() -> None:
    objects, now = Memory(), [0.0]
    lease_of(objects).take()
    second = lease_of(objects, lambda: now[0])
    second.take()
    now[0] += EXPIRES_S
    assert second.take() == ""
    assert not second.term.ready
    assert second.term.checkpoint == "s3a://lake/checkpoint-2"
    assert second.term.copy_of == "s3a://lake/checkpoint"
    second.ready()
    second.release()
    third = lease_of(objects)
    third.take()
    assert (third.term.checkpoint, third.term.ready) == ("s3a://lake/checkpoint-2", True)


def test_a_process_that_ended_on_this_machine_is_followed_at_once() -> None:
    objects = Memory()
    first, second = lease_of(objects), lease_of(objects, runs=False)
    first.take()
    assert second.take() == ""
    assert second.term.ready


def test_a_driver_that_ended_before_all_tables_were_sealed_leaves_the_sealing_to_the_next() -> None:
    objects, now = Memory(), [0.0]
    lease_of(objects).take()
    second = lease_of(objects, lambda: now[0])
    second.take()
    now[0] += EXPIRES_S
    second.take()
    third = lease_of(objects, runs=False)
    assert third.take() == ""
    assert not third.term.ready
    assert third.term.copy_of == "s3a://lake/checkpoint"


def test_a_driver_with_a_checkpoint_elsewhere_keeps_its_own() -> None:
    objects = Memory()
    first, second = lease_of(objects), lease_of(objects, checkpoint="file:///b/checkpoint")
    first.take()
    first.release()
    second.take()
    assert (second.term.checkpoint, second.term.copy_of) == ("file:///b/checkpoint", "")


def test_a_claim_whose_answer_was_lost_is_this_drivers() -> None:
    class Lost(Memory):
        def claim(self, epoch: int, content: bytes) -> bool:
            assert super().claim(epoch, content)
            raise OSError("no answer")

    objects = Lost()
    lease = lease_of(objects)
    with pytest.raises(OSError, match="no answer"):
        lease.take()
    assert lease.take() == ""
    assert lease.epoch == 1


def test_a_late_renewal_of_a_former_driver_does_not_bring_it_back() -> None:
    objects = Memory()
    first, second = lease_of(objects), lease_of(objects, runs=False)
    first.take()
    second.take()
    objects.write(1, replace(first.term, renewals=9).to_json())
    second.check()
    with pytest.raises(Superseded):
        first.check()


def test_a_process_may_run_unless_it_ended_here() -> None:
    code = "from spark_streaming.storage.driver_lease import this_process; print(this_process())"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert process_may_run(this_process())
    assert not process_may_run(ended)
    machine, _, rest = ended.partition("/")
    assert process_may_run(f"another{machine}/{rest}")
    assert process_may_run("")

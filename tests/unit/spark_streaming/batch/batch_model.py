"""The protocol of a batch as a model: two tables, a driver that may die anywhere, merges that fail.

Table 0 has no key: an event that is merged twice stays twice. It is merged in slices where the
driver has little room, it stops where its merge fails, and one rebuild of it is swapped in. Table 1
is merged beside it. Offsets, names of commits and the decision about failures are the job's own
functions; RULES are those of the protocol, and a search without one of them must fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from spark_streaming.batch.rebuild_state import Rebuild, rebuild_of
from spark_streaming.ops.stopped import RUNNING, STOPPED, first_offsets
from spark_streaming.reading.offsets import WHOLE
from tests.support.explorer import Properties
from tests.unit.spark_streaming.batch.batch_merges import RULES, Merging
from tests.unit.spark_streaming.batch.batch_world import (
    NAMES,
    REBUILD,
    Disk,
    Held,
    Part,
    Run,
    State,
    Table,
    parsed,
    put,
    reached,
)


class Batches(Merging):
    """The model. Args: how many events each table has, and how often things may go wrong."""

    def __init__(
        self,
        rules: frozenset[str] = RULES,
        *,
        events: tuple[int, int] = (3, 1),
        crashes: int = 2,
        failures: int = 1,
        pauses: int = 1,
        rebuild: bool = True,
        checkpoint_goes: str = "never",  # or: between batches, at any time
    ) -> None:
        super().__init__(rules, failures, pauses)
        self.crashes = crashes
        self.events = events
        self.rebuild = rebuild
        self.checkpoint_goes = checkpoint_goes
        self.always: Properties[State] = {
            "no event is in silver twice": lambda s: all(
                count <= 1 for table in s.disk.tables for count in table.rows
            ),
            "what the ledger counts as merged is in silver": self._ledger_is_true,
            "Spark counts a batch as done only if the ledger has it": lambda s: (
                s.disk.committed <= s.disk.recorded + 1
            ),
        }
        self.at_rest: Properties[State] = {
            "every event is in silver once": lambda s: all(
                count == 1 for table in s.disk.tables for count in table.rows
            ),
            "the ledger has every table running": lambda s: all(
                row.state == RUNNING and row.offset == end
                for row, end in zip(s.disk.ledger, events, strict=True)
            ),
            "a requested rebuild has taken silver's place": lambda s: (
                s.disk.rebuilt < 0 or s.disk.ledger[0].generation == REBUILD
            ),
        }

    def _ledger_is_true(self, state: State) -> bool:
        for table, row in zip(state.disk.tables, state.disk.ledger, strict=True):
            swapping = row.state == STOPPED and row.planned and rebuild_of(parsed(row.planned))
            if not swapping and not all(table.rows[: row.offset]):
                return False
        return True

    def first(self) -> Iterator[State]:
        tables = tuple(Table((0,) * count) for count in self.events)
        yield State(Disk(tables))

    def is_done(self, state: State) -> bool:
        disk, run = state.disk, state.run
        return (
            run is not None
            and run.phase == "idle"
            and self._at(disk) == self.events
            and disk.committed == len(disk.plans)
            and not any(run.held)
            and (disk.rebuilt < 0 or run.generation == REBUILD)
        )

    def _at(self, disk: Disk) -> tuple[int, ...]:
        return disk.plans[-1] if disk.plans else (0,) * len(NAMES)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        disk, run = state.disk, state.run
        if run is None:
            for room in (1, 3):
                yield f"a driver with room for {room} starts", self._started(state, room)
            if self._checkpoint_may_go(disk):
                at = tuple(row.offset for row in disk.ledger)
                # As if batch 0 of the new query had been what the ledger has.
                fresh = disk._replace(plans=(at,), committed=1, recorded=0, query="q2")
                yield "the checkpoint is lost", state._replace(disk=fresh)
            return
        if state.crashes < self.crashes and run != Run(room=run.room):
            yield "the driver is killed", state._replace(run=None, crashes=state.crashes + 1)
        if self.rebuild and disk.rebuilt < 0 and run.phase == "idle":
            for offset in {1, self.events[0]}:
                yield (
                    f"a rebuild of orders up to {offset} is requested",
                    state._replace(disk=disk._replace(rebuilt=offset)),
                )
        if run.swap == "running":
            yield "the thread of the swap commits", self._swapped(state)
        phases = {
            "idle": self._plan,
            "begin": self._begin,
            "merge": self._merge,
            "ledger": self._ledger,
            "spark": self._spark,
        }
        yield from phases[run.phase](state, disk, run)

    def _checkpoint_may_go(self, disk: Disk) -> bool:
        if self.checkpoint_goes == "never" or disk.query != "q" or not disk.plans:
            return False
        return disk.committed == len(disk.plans) or self.checkpoint_goes == "at any time"

    # -- start, plan

    def _started(self, state: State, room: int) -> State:
        """What `Ledger.restore` gives."""
        rows = state.disk.ledger
        held = tuple(
            Held(row.offset, row.planned, row.generation) if row.state == STOPPED else None
            for row in rows
        )
        marks = tuple(row.mark for row in rows)
        run = Run(held=held, marks=marks, generation=rows[0].generation, room=room)
        return state._replace(run=run)

    def _plan(self, state: State, disk: Disk, run: Run) -> Iterator[tuple[str, State]]:
        if disk.committed < len(disk.plans):
            yield "Spark repeats its batch", state.phase("begin", batch=disk.committed)
            return
        at = self._at(disk)
        ends: list[tuple[int, ...]] = [
            (orders, ratings)
            for orders in range(at[0], self.events[0] + 1)
            for ratings in range(at[1], self.events[1] + 1)
            if (orders, ratings) != at
        ]
        if not ends and (any(run.held) or (disk.rebuilt >= 0 and run.generation != REBUILD)):
            ends = [at]  # a heartbeat
        for end in ends:
            planned = state._replace(disk=disk._replace(plans=(*disk.plans, end)))
            yield f"Spark plans a batch up to {end}", planned.phase("begin", batch=len(disk.plans))

    # -- 1. begin: already recorded? a swap?

    def _begin(self, state: State, disk: Disk, run: Run) -> Iterator[tuple[str, State]]:
        if disk.recorded >= run.batch:
            yield "the batch is in the ledger already", state.phase("spark")
            return
        held = run.held[0]
        if (
            (disk.rebuilt < 0 or run.generation == REBUILD)
            # it is under way
            or (held is not None and held.planned and rebuild_of(parsed(held.planned)))
            # a part of this batch is merged but not in the ledger
            or (held is None and reached(disk, 0, run.batch) > 0)
        ):
            yield "the batch begins", self._parts(state)
            return
        if state.pauses < self.pauses:
            paused = state._replace(pauses=state.pauses + 1)
            yield "the batch begins, requests are not looked at", self._parts(paused)
        if held is None:
            start = first_offsets(self._span(disk, run.batch), NAMES[0], [])[0]
            held = Held(start, generation=run.generation)
        rebuild = Rebuild(REBUILD, NAMES[0], "", "", "", offsets={0: disk.rebuilt})
        held = held._replace(planned=rebuild.swap({0: held.offset}).to_json())
        if "a swap is noted first" in self.rules:
            state = self._note(state, 0, held)
        state = state._replace(run=run._replace(held=put(run.held, 0, held)))
        yield "the swap is noted, orders stops", self._parts(state)

    def _parts(self, state: State) -> State:
        run, disk = state.run, state.disk
        assert run is not None
        parts: list[Part | None] = []
        for table, held in enumerate(run.held):
            size = self._span(disk, run.batch, table).size
            if held is not None or not size:
                parts.append(Part("resuming") if held is not None else None)
                continue
            there = reached(disk, table, run.batch)
            cut = run.first and 0 < there < WHOLE and "a cut part is recognised" in self.rules
            parts.append(Part(sliced=cut or (table == 0 and size > run.room)))
        ledger_first = "the ledger comes last" not in self.rules
        return state.phase("ledger" if ledger_first else "merge", parts=tuple(parts), first=False)

"""The bronze sink as a model: two tasks that both believe to own a partition, and a store that may
answer late or not at all.

A task follows the list in `BronzeSinkTask`: it begins after the bucket's last object, gathers,
seals, and puts the sealed object under its first offset if that name is free. RULES are left out
one by one, and a search without one of them must fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from spark_streaming.reading.bronze_proof import unproven
from tests.support.explorer import Properties
from tests.unit.connect.sink_buffer import Buffer, EventsLost, Mark, Sealed, begin, verify_jumps

# The partition's log: records, and the markers that end transactions. Read committed only.
LOG = "rr.r."
RULES = frozenset(
    {
        "the bucket is the offset store",
        "a put needs a free name",
        "after another's object it begins again",
        "passed offsets are verified",
        "what is committed says what a sealed object says",
    }
)


class Task(NamedTuple):
    """A task's partition: down, listed (it knows bronze's last offset), open or stopped."""

    phase: str = "down"
    last: int = -1
    buffer: Buffer | None = None


class State(NamedTuple):
    """The store, Kafka and the tasks. `flying`: puts that the store will take late, or never."""

    tasks: tuple[Task, ...]
    objects: frozenset[Sealed] = frozenset()
    flying: frozenset[Sealed] = frozenset()
    committed: Mark | None = None
    start: int = 0  # Kafka's first offset
    kills: int = 0
    faults: int = 0


class Sink:
    """The model.

    Args:
        kills, faults: how often a task is killed, and how often a put gets no answer.
        expires_to: the offset up to which Kafka drops records once; 0: it drops none.
    """

    def __init__(
        self,
        rules: frozenset[str] = RULES,
        *,
        log: str = LOG,
        tasks: int = 2,
        kills: int = 1,
        faults: int = 1,
        expires_to: int = 0,
        skip_gaps: bool = False,
    ) -> None:
        self.rules = rules
        self.count = tasks
        self.records = tuple(number for number, kind in enumerate(log) if kind == "r")
        self.end = len(log)
        self.kills, self.faults = kills, faults
        self.expires_to = expires_to
        self.skip_gaps = skip_gaps
        # Without expiry nobody reads what is committed.
        self.reads_commits = expires_to or "the bucket is the offset store" not in rules
        self.always: Properties[State] = {
            "no record is in two objects": self._each_once,
            "what bronze lacks before its last record is told by a proof": self._no_silent_gap,
            "what is committed is in bronze, or Kafka dropped it": self._committed_is_kept,
        }
        self.at_rest: Properties[State] = {
            "bronze has every record that Kafka still has, or the task is stopped": lambda s: (
                any(task.phase == "stopped" for task in s.tasks)
                or {*self.records} <= self._kept(s) | {*range(s.start)}
            ),
        }
        if not expires_to:
            self.always = {
                **self.always,
                "no task stops": lambda s: all(task.phase != "stopped" for task in s.tasks),
            }

    def _kept(self, state: State) -> set[int]:
        return {offset for one in state.objects for offset in one.records}

    def _each_once(self, state: State) -> bool:
        return len(self._kept(state)) == sum(len(one.records) for one in state.objects)

    def _no_silent_gap(self, state: State) -> bool:
        """Read bronze as `Bronze.events` does."""
        expected = 0
        for one in sorted(state.objects, key=lambda o: o.first):
            for offset in one.records:
                missing = unproven(one.proof, expected, offset - 1) if offset > expected else None
                told = range(missing[0], missing[1] + 1) if missing else range(0)
                if any(n in self.records and n not in told for n in range(expected, offset)):
                    return False
                expected = max(expected, offset + 1)
        return True

    def _committed_is_kept(self, state: State) -> bool:
        if state.committed is None:
            return True
        before = {number for number in self.records if number < state.committed.offset}
        return before <= self._kept(state) | {*range(state.start)}

    def first(self) -> Iterator[State]:
        yield State((Task(),) * self.count)

    def is_done(self, state: State) -> bool:
        """Whether some task lives, and those that do have nothing left to read or put."""
        living = [task for task in state.tasks if task.phase != "down"]
        return bool(living) and all(
            task.phase == "stopped"
            or (
                task.phase == "open"
                and task.buffer is not None
                and not task.buffer.records
                and task.buffer.sealed is None
                and not any(number >= task.buffer.next for number in self.records)
            )
            for task in living
        )

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        if self.expires_to and not state.start:
            yield (
                f"Kafka drops what is before {self.expires_to}",
                state._replace(start=self.expires_to),
            )
        for late in state.flying:
            flying = state.flying - {late}
            yield "the store takes a late put", self._stored(state, late)._replace(flying=flying)
        for number, task in enumerate(state.tasks):
            for words, after in self._task_steps(state, number, task):
                yield f"task {number} {words}", after

    def _task_steps(self, state: State, number: int, task: Task) -> Iterator[tuple[str, State]]:
        if task.phase == "down":
            yield "lists the bucket", self._listed(state, number)
            return
        if state.kills < self.kills:
            yield "is killed", self._with(state, number, Task())._replace(kills=state.kills + 1)
        if task.phase == "listed":
            yield self._begin(state, number, task)
        elif task.phase == "open":
            assert task.buffer is not None
            yield from self._open_steps(state, number, task.buffer)

    def _with(self, state: State, number: int, task: Task) -> State:
        tasks = (*state.tasks[:number], task, *state.tasks[number + 1 :])
        return state._replace(tasks=tasks)

    def _opened(self, state: State, number: int, buffer: Buffer) -> State:
        return self._with(state, number, Task("open", -1, buffer))

    def _listed(self, state: State, number: int) -> State:
        """`Bucket.last`: the object with the greatest name."""
        newest = max(state.objects, key=lambda one: one.first, default=None)
        last = -1 if newest is None else newest.last
        if "the bucket is the offset store" not in self.rules:
            last = -1 if state.committed is None else state.committed.offset - 1
        return self._with(state, number, Task("listed", last))

    def _begin(self, state: State, number: int, task: Task) -> tuple[str, State]:
        try:
            buffer = begin(task.last, state.start, state.committed, skip_gaps=self.skip_gaps)
        except EventsLost:
            return "stops: events are lost", self._with(state, number, Task("stopped"))
        return f"begins at {buffer.next}", self._opened(state, number, buffer)

    def _open_steps(self, state: State, number: int, buffer: Buffer) -> Iterator[tuple[str, State]]:
        told = "what is committed says what a sealed object says" in self.rules
        mark = buffer.mark(tells_of_sealed=told)
        if mark != state.committed and self.reads_commits:
            yield f"commits {mark.offset}", state._replace(committed=mark)
        if buffer.sealed is not None:
            yield from self._puts(state, number, buffer, buffer.sealed)
            return
        # Kafka sends a consumer whose place is gone to its first offset.
        place = max(buffer.next, state.start)
        left = [offset for offset in self.records if offset >= place]
        if left:
            yield f"reads {left[0]}", self._opened(state, number, buffer.take(left[0]))
        elif place < self.end:
            yield "reads to the end", self._opened(state, number, buffer.advance(self.end))
        if buffer.records or buffer.jump_from >= 0:
            yield self._verified(state, number, buffer)
        if buffer.has_passed_markers():
            moved = self._opened(state, number, buffer.quiet())
            yield "is quiet: its place moves past markers", moved

    def _verified(self, state: State, number: int, buffer: Buffer) -> tuple[str, State]:
        """Verify what was passed without a record, and seal what was gathered."""
        verified = buffer.jumps_verified()
        try:
            if "passed offsets are verified" in self.rules:
                verified = verify_jumps(buffer, state.start, skip_gaps=self.skip_gaps)
        except EventsLost:
            return "stops: events are lost", self._with(state, number, Task("stopped"))
        if not verified.records:
            return "verifies what it passed", self._opened(state, number, verified)
        # A random one each time; here the task and its life, which is as good.
        sealed = verified.seal(number + len(state.tasks) * state.kills)
        after = self._opened(state, number, sealed)
        assert sealed.sealed is not None
        return f"seals {sealed.sealed.records}", after

    def _stored(self, state: State, sealed: Sealed) -> State:
        others = {one for one in state.objects if one.first != sealed.first}
        if len(others) < len(state.objects) and "a put needs a free name" in self.rules:
            return state
        return state._replace(objects=frozenset({*others, sealed}))

    def _puts(
        self, state: State, number: int, buffer: Buffer, sealed: Sealed
    ) -> Iterator[tuple[str, State]]:
        stored = self._stored(state, sealed)
        name = f"puts {sealed.records}"
        if sealed in stored.objects:
            yield f"{name}: it is stored", self._opened(stored, number, buffer.settled())
        elif "after another's object it begins again" in self.rules:
            yield f"{name}: the name is taken", self._listed(stored, number)
        else:
            yield f"{name}: the name is taken", self._opened(stored, number, buffer.settled())
        if state.faults < self.faults:
            faults = state.faults + 1
            yield f"{name}: the answer is lost", stored._replace(faults=faults)
            late = state._replace(flying=state.flying | {sealed}, faults=faults)
            yield f"{name}: it is on its way for long", late

"""The model of a batch from its merges to the ledger: what may happen to each table's part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from spark_streaming.batch.rebuild_state import rebuild_of
from spark_streaming.ops.stopped import (
    FAILING,
    RUNNING,
    STOPPED,
    Failure,
    Slice,
    batch_must_fail,
)
from spark_streaming.reading.offsets import (
    BatchSpan,
    slice_end,
    slice_version,
    version_of,
)
from spark_streaming.tables.engine_protocol import Commit
from tests.unit.spark_streaming.batch.batch_world import (
    NAMES,
    REBUILD,
    Disk,
    Held,
    Part,
    Row,
    Run,
    State,
    app_id_of,
    next_of,
    parsed,
    put,
    reached,
    span_of,
)

RULES = frozenset(
    {
        "a merge has a name",
        "the ledger comes last",
        "a slice is noted first",
        "a failed merge keeps its name",
        "a cut part is recognised",
        "a swap is noted first",
        "a rebuild names its own slices",
        "only positions of the newest rebuild count",
    }
)


class Merge(NamedTuple):
    """How a merge of table 0 or 1 may end."""

    words: str
    state: State
    succeeded: bool


class Merging:
    """Steps 2 to 5 of a batch. Args: how many merges may fail, and how often a table may wait."""

    def __init__(self, rules: frozenset[str], failures: int, pauses: int) -> None:
        self.rules = rules
        self.failures = failures
        self.pauses = pauses

    def _span(self, disk: Disk, batch: int, table: int | None = None) -> BatchSpan:
        return span_of(disk.plans[batch - 1] if batch else (0, 0), disk.plans[batch], table)

    # -- 2 to 4. merge, the stopped tables

    def _merge(self, state: State, disk: Disk, run: Run) -> Iterator[tuple[str, State]]:
        todo = [t for t, part in enumerate(run.parts) if part is not None and part.state == "todo"]
        for table in todo:
            yield from self._merge_part(state, disk, run, table)
        if not todo:
            yield from self._resume(state, disk, run)

    def _merge_part(
        self, state: State, disk: Disk, run: Run, table: int
    ) -> Iterator[tuple[str, State]]:
        part, span = run.parts[table], self._span(disk, run.batch, table)
        assert part is not None
        at, end = 0, span.size
        if part.sliced:
            there = reached(disk, table, run.batch)
            at, end = part.at, slice_end(part.at, run.room, span.size, there)
            commit = Commit(app_id_of(disk, table), slice_version(run.batch, end, span.size))
        else:
            commit = Commit(app_id_of(disk, table), version_of(run.batch))
        cut = span.between(at, end)
        piece = Slice(cut.start[NAMES[table]], cut.end[NAMES[table]], commit)
        for merge in self._merges(state, table, piece):
            if merge.succeeded:
                new = Part("merged") if end == span.size else part._replace(at=end)
                yield merge.words, merge.state.with_part(table, new)
                continue
            new = Part("failed", planned=piece.to_json())
            after = merge.state.with_part(table, new)
            if at:
                after = after.marked(table, piece.start[0])
            yield merge.words, after

    def _merges(self, state: State, table: int, piece: Slice) -> Iterator[Merge]:
        """A merge that succeeds, fails, or succeeds without an answer."""
        disk, run, commit = state.disk, state.run, piece.commit
        assert run is not None
        words = f"{NAMES[table]}: offsets {piece.start[0]} to {piece.end[0] - 1}"
        known = disk.tables[table].version(commit.app_id) >= commit.version
        offsets = range(max(piece.start[0], run.marks[table]), piece.end[0])
        if not offsets or (known and "a merge has a name" in self.rules):
            yield Merge(f"{words} are there already", state, True)
            return
        merged = disk.tables[table].merged(offsets, commit)
        done = state._replace(disk=disk._replace(tables=put(disk.tables, table, merged)))
        yield Merge(f"{words} are merged", done, True)
        if state.failures < self.failures:
            count = state.failures + 1
            yield Merge(f"{words}: the merge fails", state._replace(failures=count), False)
            yield Merge(
                f"{words} are merged, the answer is lost", done._replace(failures=count), False
            )

    def _resume(self, state: State, disk: Disk, run: Run) -> Iterator[tuple[str, State]]:
        open_ = [t for t, p in enumerate(run.parts) if p is not None and p.state == "resuming"]
        if not open_:
            last = "the ledger comes last" in self.rules
            yield from (self._ledger if last else self._spark)(state, disk, run)
        for table in open_:
            held = run.held[table]
            assert held is not None
            if state.pauses < self.pauses:
                paused = state._replace(pauses=state.pauses + 1)
                waits = Part("waits" if held.planned else "stopped")
                yield f"{NAMES[table]} waits", paused.with_part(table, waits)
            if held.planned and rebuild_of(parsed(held.planned)):
                yield from self._swap(state, run, held)
            elif held.planned:
                yield from self._resume_planned(state, table, held)
            else:
                yield self._next_slice(state, table, held)

    def _resume_planned(self, state: State, table: int, held: Held) -> Iterator[tuple[str, State]]:
        piece = parsed(held.planned)
        for merge in self._merges(state, table, piece):
            if not merge.succeeded:
                yield merge.words, merge.state.with_part(table, Part("stopped"))
                continue
            on = held._replace(offset=piece.end[0], planned="")
            after = merge.state.holding(table, on).marked(table, piece.end[0])
            yield merge.words, after

    def _next_slice(self, state: State, table: int, held: Held) -> tuple[str, State]:
        run = state.run
        assert run is not None
        end = self._span(state.disk, run.batch).end[NAMES[table]][0]
        named = (
            held if "a rebuild names its own slices" in self.rules else held._replace(generation="")
        )
        piece = next_of(state.disk.query, table, named, end, run.room)
        if not piece:
            runs = state.holding(table, None).with_part(table, Part("merged"))
            return f"{NAMES[table]} runs again", runs
        held = held._replace(planned=piece)
        if "a slice is noted first" in self.rules:
            state = self._note(state, table, held)
        words = f"{NAMES[table]}: offsets {parsed(piece).start[0]} to {parsed(piece).end[0] - 1} are noted"
        return words, state.holding(table, held)

    def _swap(self, state: State, run: Run, held: Held) -> Iterator[tuple[str, State]]:
        if not run.swap:
            yield "the thread of the swap starts", state._replace(run=run._replace(swap="running"))
        if run.swap != "done":
            return
        end = parsed(held.planned).end[0]
        new = run._replace(
            swap="",
            generation=REBUILD,
            marks=put(run.marks, 0, end),
            held=put(run.held, 0, Held(end, generation=REBUILD)),
        )
        yield "orders goes on where its rebuild ends", state._replace(run=new)

    def _swapped(self, state: State) -> State:
        disk, run = state.disk, state.run
        assert run is not None and run.held[0] is not None
        piece, table = parsed(run.held[0].planned), disk.tables[0]
        if table.version(piece.commit.app_id) < piece.commit.version:
            rows = tuple(int(number < piece.end[0]) for number in range(len(table.rows)))
            table = table._replace(rows=rows).named(piece.commit)
        return State(
            disk._replace(tables=put(disk.tables, 0, table)),
            run._replace(swap="done"),
            *state[2:],
        )

    # -- 5. the ledger, then Spark's commit

    def _ledger(self, state: State, disk: Disk, run: Run) -> Iterator[tuple[str, State]]:
        failed = [
            t for t, part in enumerate(run.parts) if part is not None and part.state == "failed"
        ]
        worked = sum(part is not None and part.state == "merged" for part in run.parts)
        tries = {t: disk.ledger[t].failed for t in failed}
        before = {t: times if batch == run.batch else 0 for t, (batch, times) in tries.items()}
        failures = [Failure(ValueError("the merge failed"), before[t]) for t in failed]
        stopping = {t: self._first_stop(run, t) for t in failed}
        if batch_must_fail(failures, worked):
            for table, held in stopping.items():
                count = (run.batch, before[table] + 1)
                row = Row(FAILING, held.offset, run.marks[table], "", held.generation, count)
                disk = self._row(disk, table, row)
            yield "the batch fails, the driver ends", state._replace(disk=disk, run=None)
            return
        for table, held in stopping.items():
            state = state.holding(table, held).with_part(table, Part("stopped"))
        yield "the ledger has the batch", self._recorded(state)

    def _first_stop(self, run: Run, table: int) -> Held:
        part = run.parts[table]
        assert part is not None
        planned = part.planned if "a failed merge keeps its name" in self.rules else ""
        generation = run.generation if table == 0 else ""
        return Held(parsed(part.planned).start[0], planned, generation)

    def _recorded(self, state: State) -> State:
        run, disk = state.run, state.disk
        assert run is not None
        for table, part in enumerate(run.parts):
            held = run.held[table]
            if part is None or part.state == "waits":
                continue
            if held is not None and part.state == "stopped":
                state = self._note(state._replace(disk=disk), table, held)
                disk = state.disk
                continue
            end = self._span(disk, run.batch).end[NAMES[table]][0]
            state = state.marked(table, end)
            generation = run.generation if table == 0 else ""
            row = Row(RUNNING, end, state.memory.marks[table], "", generation)
            disk = self._row(disk, table, row)
        state = state._replace(disk=disk._replace(recorded=run.batch))
        return state.phase("spark" if "the ledger comes last" in self.rules else "merge")

    def _spark(self, state: State, disk: Disk, run: Run) -> Iterator[tuple[str, State]]:
        done = state._replace(disk=disk._replace(committed=run.batch + 1))
        yield "Spark commits the batch", done.phase("idle", parts=(None, None))

    def _note(self, state: State, table: int, held: Held) -> State:
        row = Row(STOPPED, held.offset, state.memory.marks[table], held.planned, held.generation)
        return state._replace(disk=self._row(state.disk, table, row))

    def _row(self, disk: Disk, table: int, row: Row) -> Disk:
        """Append a row: positions only grow, but for those of an older generation."""
        old = disk.ledger[table]
        if (
            row.generation == old.generation
            or "only positions of the newest rebuild count" not in self.rules
        ):
            row = row._replace(mark=max(row.mark, old.mark))
        return disk._replace(ledger=put(disk.ledger, table, row))

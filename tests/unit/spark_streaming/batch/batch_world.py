"""What the model of a batch is about: the lake, Spark's checkpoint, and a driver's memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

from spark_streaming.batch.resumption import slices_app_id
from spark_streaming.ops.stopped import (
    RUNNING,
    Slice,
    Stop,
    next_slice,
)
from spark_streaming.reading.offsets import BatchSpan, reached_in
from spark_streaming.tables.engine_protocol import Commit

NAMES = ("orders", "ratings")
AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
REBUILD = "r1"


class Table(NamedTuple):
    """A silver table: how often each event is in it, and its log's newest version of each name."""

    rows: tuple[int, ...]
    names: frozenset[tuple[str, int]] = frozenset()

    def version(self, app_id: str) -> int:
        return max((version for name, version in self.names if name == app_id), default=-1)

    def merged(self, offsets: Iterable[int], commit: Commit) -> Table:
        taken = set(offsets)
        rows = tuple(count + (number in taken) for number, count in enumerate(self.rows))
        return self._replace(rows=rows).named(commit)

    def named(self, commit: Commit) -> Table:
        others = {one for one in self.names if one[0] != commit.app_id}
        return self._replace(names=frozenset({*others, (commit.app_id, commit.version)}))


class Row(NamedTuple):
    """A table's newest row in the ledger; `mark`: its positions, of its newest generation."""

    state: str = RUNNING
    offset: int = 0
    mark: int = 0
    planned: str = ""
    generation: str = ""
    failed: tuple[int, int] = (-1, 0)  # in this batch, so often


class Disk(NamedTuple):
    """What outlives the driver. `plans`: where each batch ends; `committed` of them Spark has done."""

    tables: tuple[Table, ...]
    ledger: tuple[Row, ...] = (Row(), Row())
    recorded: int = -1
    plans: tuple[tuple[int, ...], ...] = ()
    committed: int = 0
    query: str = "q"  # with another checkpoint it is another one
    rebuilt: int = -1  # the offset to which the requested rebuild goes; -1: none is requested


class Part(NamedTuple):
    """A table's part of the batch: todo, resuming, merged, failed, stopped or waits.

    A sliced part is merged up to `at`, counted from its start.
    """

    state: str = "todo"
    at: int = 0
    sliced: bool = False
    planned: str = ""


class Held(NamedTuple):
    """A stopped table, as the driver remembers it."""

    offset: int
    planned: str = ""
    generation: str = ""


class Run(NamedTuple):
    """A driver's memory."""

    phase: str = "idle"
    batch: int = -1
    parts: tuple[Part | None, ...] = (None, None)
    held: tuple[Held | None, ...] = (None, None)
    marks: tuple[int, ...] = (0, 0)
    generation: str = ""
    room: int = 1  # offsets of table 0 that it merges at once
    first: bool = True
    swap: str = ""  # the thread of the swap: running or done


class State(NamedTuple):
    disk: Disk
    run: Run | None = None
    crashes: int = 0
    failures: int = 0
    pauses: int = 0

    @property
    def memory(self) -> Run:
        """The memory of the driver, which runs."""
        assert self.run is not None
        return self.run

    def phase(self, phase: str, **to: Any) -> State:
        return self._replace(run=self.memory._replace(phase=phase, **to))

    def with_part(self, table: int, part: Part) -> State:
        run = self.memory
        return self._replace(run=run._replace(parts=put(run.parts, table, part)))

    def marked(self, table: int, mark: int) -> State:
        run = self.memory
        marks = put(run.marks, table, max(mark, run.marks[table]))
        return self._replace(run=run._replace(marks=marks))

    def holding(self, table: int, held: Held | None) -> State:
        run = self.memory
        return self._replace(run=run._replace(held=put(run.held, table, held)))


def put(values: tuple[Any, ...], index: int, value: object) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


@lru_cache(None)
def parsed(text: str) -> Slice:
    return Slice.from_json(text)


@lru_cache(None)
def stop_of(table: int, held: Held) -> Stop:
    planned = parsed(held.planned) if held.planned else None
    stop = Stop(NAMES[table], NAMES[table], "", AT, {0: held.offset}, planned)
    return stop if not held.generation else Stop(**{**vars(stop), "generation": held.generation})


@lru_cache(None)
def next_of(query: str, table: int, held: Held, end: int, room: int) -> str:
    app_id = slices_app_id(query, stop_of(table, held))
    piece = next_slice(app_id, {0: held.offset}, {0: end}, room)
    return piece.to_json() if piece else ""


def reached(disk: Disk, table: int, batch: int) -> int:
    """How far a table is merged in a batch: `TableSteps.reached`."""
    return reached_in(disk.tables[table].version(app_id_of(disk, table)), batch)


def app_id_of(disk: Disk, table: int) -> str:
    """The application id of a table's parts of batches: `TableSteps.commit`."""
    return f"headwater:{disk.query}:{NAMES[table]}"


@lru_cache(None)
def span_of(start: tuple[int, ...], end: tuple[int, ...], table: int | None) -> BatchSpan:
    spans = [{name: {0: at} for name, at in zip(NAMES, ats, strict=True)} for ats in (start, end)]
    span = BatchSpan(*spans)
    return span if table is None else span.of({NAMES[table]})

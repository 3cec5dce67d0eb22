"""Folding a table's large part of a batch by its keys, somewhere else than in the driver.

The driver sees counts, positions, and the few events that cannot be folded by their key alone.
Whatever cannot be done so exactly ends in `NotByKey`: the driver takes the part in slices then.
Where the tasks run is the caller's (`executors`): nothing here imports Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import orjson

from spark_streaming.contract import Contract
from spark_streaming.envelope import decode
from spark_streaming.events import Decoded, RawEvent, Reject
from spark_streaming.fold import Folded, Moved, Present, fold
from spark_streaming.position import HighWater
from spark_streaming.tasks import (
    MOVES_MAX,
    TASK_BYTES_MAX,
    FoldTask,
    Lookup,
    Report,
    report_of_rows,
)

# Small enough for a worker's memory, large enough that its start does not count.
TASK_EVENTS = 20_000
# A first try, one that knows the rows' size, one that knows the key changes, a newer contract.
TRIES_MAX = 5


class NotByKey(Exception):
    """A part that cannot be folded key by key; the text says what stands in it."""


class Output(Protocol):
    """What the tasks of one try made; they keep it until `close`."""

    @property
    def report(self) -> Report:
        """All tasks' together."""
        ...

    def rejects(self) -> Iterator[Reject]:
        """The rejects of all tasks, a few at a time."""
        ...

    def events(self) -> list[RawEvent]:
        """The events that were handed on."""
        ...

    def close(self) -> None: ...


# Runs a task over a part's events: number of tasks (same message key, same task), and the keys
# whose events are handed on instead.
Run = Callable[[FoldTask, int, frozenset[bytes]], Output]


@dataclass(frozen=True)
class Before:
    """A silver table as it was before the batch.

    Args:
        pinned: for the tasks, under a contract; None where the table is empty.
        moved, present: for what the driver folds: see `fold`.
    """

    pinned: Callable[[Contract], Lookup | None]
    moved: Moved
    present: Present


@dataclass
class LargePart:
    """A table's part, folded by tasks.

    Args:
        report: of the tasks and of what the driver folded itself.
        output: the tasks'; close it when its rows are merged.
        moved: rows of keys that changed, folded in the driver; few.
        own_rejects: of `moved`.
    """

    report: Report
    contract: Contract
    output: Output
    moved: Folded | None = None
    own_rejects: list[Reject] = field(default_factory=list)

    def rejects(self) -> Iterator[Reject]:
        """All rejects, a few at a time."""
        return chain(self.own_rejects, self.output.rejects() if self.report.rejected else ())


def tasks_for(events: int) -> int:
    """How many tasks share so many events."""
    return max(1, -(-events // TASK_EVENTS))


def fold_by_key(
    run: Run,
    count: int,
    contract: Contract,
    high_water: HighWater,
    before: Before,
    follow: Callable[[set[str], set[str]], Contract | None],
) -> LargePart:
    """Fold a part by tasks that each see some keys' events.

    Args:
        count: about how many events they are.
        high_water: the topic's, as the last batch left it.
        follow: given unknown and stale columns, the newer contract if there is one.
    Raises: NotByKey.
    """
    tasks, moving = tasks_for(count), frozenset[bytes]()
    for _ in range(TRIES_MAX):
        task = FoldTask(contract, high_water, before.pinned(contract))
        output = run(task, tasks, moving)
        kept = False
        try:
            report = output.report
            newer = follow(set(report.unknown_columns), set(report.stale_columns))
            if newer is not None:
                contract = newer
                continue
            if report.too_large:
                tasks = _more_tasks(tasks, report)
                continue
            if report.moves:
                moving = _moving_keys(moving, report)
                continue
            if report.apart:
                raise NotByKey("events whose meaning hangs on those of other keys")
            part = LargePart(report, contract, output)
            if moving:
                decoded = _fold_moved(part, task, before)
                newer = follow(decoded.unknown_columns, decoded.stale_columns)
                if newer is not None:
                    contract = newer
                    continue
            kept = True
            return part
        finally:
            if not kept:
                output.close()
    raise NotByKey(f"no way to part its keys was found in {TRIES_MAX} tries")


def positions_of(run: Run, count: int, contract: Contract, high_water: HighWater) -> Report:
    """Only the counts and positions of a part, which the table has already."""
    task = FoldTask(contract, high_water, None, fold=False)
    with closing(run(task, tasks_for(count), frozenset())) as output:
        return output.report


def _fold_moved(part: LargePart, task: FoldTask, before: Before) -> Decoded:
    """Fold the keys that changed, which belong together, in the driver."""
    events = part.output.events()
    decoded = decode(events, task.contract, task.high_water, part.report.high_water)
    partitions = {event.partition for event in events}
    snapshot = any(change.op == "r" for change in decoded.changes.changes)
    tries = decoded.tries | part.report.tries
    if decoded.by_place or len(tries) > 1 or (snapshot and len(partitions) > 1):
        raise NotByKey("key changes whose place in the stream other events tell")
    part.moved = fold(decoded.changes, task.contract, before.moved, before.present)
    part.own_rejects = [*decoded.rejects, *part.moved.rejects]
    part.report = part.report.merge(
        Report(
            high_water=decoded.high_water,
            skipped=decoded.skipped,
            last_committed_us=decoded.last_committed_us,
        )
    ).merge(report_of_rows(part.moved, task.contract, len(part.own_rejects)))
    return decoded


def _more_tasks(tasks: int, report: Report) -> int:
    """Enough tasks for the size that was seen; raises NotByKey where they were enough before."""
    wanted = max(-(-report.events // TASK_EVENTS), -(-report.size * 2 // TASK_BYTES_MAX))
    if wanted <= tasks:
        raise NotByKey(f"the events of a few keys take {report.largest >> 20} MB")
    return wanted


def _moving_keys(known: frozenset[bytes], report: Report) -> frozenset[bytes]:
    """The message keys of all rows whose key changed, before and after."""
    if known or len(report.moves) > MOVES_MAX:
        raise NotByKey("many key changes")
    messages = {message for message, _ in report.moves}
    others = {other for _, other in report.moves}
    # The other half of a change may not be here: then its message key is told by its words only.
    same = {key for key in others | messages if _is_plain(key)}
    if not others <= messages and same != others | messages:
        raise NotByKey("key changes whose keys are written in two ways")
    return frozenset(messages | others)


def _is_plain(key: bytes) -> bool:
    """Whether JSON text is as short as can be: then equal keys are equal bytes."""
    try:
        return orjson.dumps(orjson.loads(key)) == key
    except orjson.JSONDecodeError:
        return False

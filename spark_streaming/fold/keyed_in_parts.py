"""Folds a table's large part of a batch by tasks that each have some keys' events.

The driver sees counts, positions, and the few events that cannot be folded by their key alone.
Where the result would not be exact, `NotFoldableByKey` is raised, and the driver folds the part in
slices. The caller decides where the tasks run (`executors`): nothing here imports Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import Decoded, RawEvent, Reject
from spark_streaming.events.position import HighWater
from spark_streaming.fold.change_rows import FindKeys, ReadRows
from spark_streaming.fold.fold_tasks import (
    KEY_CHANGES_MAX,
    TASK_BYTES_MAX,
    FoldTask,
    Lookup,
    Report,
    report_of_rows,
)
from spark_streaming.fold.keyed import Folded, fold

# Small enough for a worker's memory, large enough that its start does not count.
TASK_EVENTS = 20_000
# The first, one that knows the rows' size, one that knows the key changes, newer contracts.
ATTEMPTS_MAX = 5


class NotFoldableByKey(Exception):
    """A part cannot be folded key by key; the message says what it contains."""


class Output(Protocol):
    """The output of one attempt's tasks; they keep it until `close`."""

    @property
    def report(self) -> Report:
        """The combined report of all tasks."""
        ...

    def rejects(self) -> Iterator[Reject]:
        """Yield the rejects of all tasks, a few at a time."""
        ...

    def events(self) -> list[RawEvent]:
        """Return the forwarded events."""
        ...

    def close(self) -> None: ...


# Runs a task over a part's events, with the number of tasks (equal message keys go to one task) and
# the keys whose events are forwarded to the driver instead.
Run = Callable[[FoldTask, int, frozenset[bytes]], Output]


@dataclass(frozen=True)
class Before:
    """A silver table as it was before the batch.

    Args:
        pinned: gives the tasks' look-up under a contract; None if the table is empty.
        read_rows, find_keys: for the driver's own fold; see `fold`.
    """

    pinned: Callable[[Contract], Lookup | None]
    read_rows: ReadRows
    find_keys: FindKeys


@dataclass
class LargePart:
    """A table's part, folded by tasks.

    Args:
        report: the combined report of the tasks and of the driver's fold.
        output: the tasks' output; close it when its rows are merged.
        changed_keys: the few rows whose key changed, folded in the driver.
        own_rejects: the rejects of `changed_keys`.
    """

    report: Report
    contract: Contract
    output: Output
    changed_keys: Folded | None = None
    own_rejects: list[Reject] = field(default_factory=list)

    def rejects(self) -> Iterator[Reject]:
        """Yield all rejects, a few at a time."""
        return chain(self.own_rejects, self.output.rejects() if self.report.rejected else ())


def tasks_for(events: int) -> int:
    """Return the number of tasks for this many events."""
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
        count: about how many events there are.
        high_water: the topic's mark as the last batch left it.
        follow: returns the newer contract, if there is one, given unknown and stale columns.
    Raises: NotFoldableByKey.
    """
    tasks, changed_keys = tasks_for(count), frozenset[bytes]()
    for _ in range(ATTEMPTS_MAX):
        task = FoldTask(contract, high_water, before.pinned(contract))
        output = run(task, tasks, changed_keys)
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
            if report.key_changes:
                changed_keys = _changed_keys(changed_keys, report)
                continue
            if report.depends_on_other_keys:
                raise NotFoldableByKey("events that depend on those of other keys")
            part = LargePart(report, contract, output)
            if changed_keys:
                decoded = _fold_changed_keys(part, task, before)
                newer = follow(decoded.unknown_columns, decoded.stale_columns)
                if newer is not None:
                    contract = newer
                    continue
            kept = True
            return part
        finally:
            if not kept:
                output.close()
    raise NotFoldableByKey(f"no way to split its keys was found in {ATTEMPTS_MAX} attempts")


def positions_of(run: Run, count: int, contract: Contract, high_water: HighWater) -> Report:
    """Return only the counts and positions of a part that the table has already."""
    task = FoldTask(contract, high_water, None, fold=False)
    with closing(run(task, tasks_for(count), frozenset())) as output:
        return output.report


def _fold_changed_keys(part: LargePart, task: FoldTask, before: Before) -> Decoded:
    """Fold the rows whose keys changed, old and new keys together, in the driver."""
    events = part.output.events()
    decoded = decode(events, task.contract, task.high_water, part.report.high_water)
    partitions = {event.partition for event in events}
    snapshot = any(change.op == "r" for change in decoded.changes.changes)
    attempts = decoded.snapshot_attempts | part.report.snapshot_attempts
    if decoded.depends_on_other_keys or len(attempts) > 1 or (snapshot and len(partitions) > 1):
        raise NotFoldableByKey("key changes whose place in the stream depends on other events")
    part.changed_keys = fold(decoded.changes, task.contract, before.read_rows, before.find_keys)
    part.own_rejects = [*decoded.rejects, *part.changed_keys.rejects]
    part.report = part.report.merge(
        Report(
            high_water=decoded.high_water,
            skipped=decoded.skipped,
            last_committed_us=decoded.last_committed_us,
        )
    ).merge(report_of_rows(part.changed_keys, task.contract, len(part.own_rejects)))
    return decoded


def _more_tasks(tasks: int, report: Report) -> int:
    """Return enough tasks for the reported size. Raises: NotFoldableByKey if they were enough."""
    wanted = max(-(-report.events // TASK_EVENTS), -(-report.size * 2 // TASK_BYTES_MAX))
    if wanted <= tasks:
        raise NotFoldableByKey(f"the events of a few keys take {report.largest >> 20} MB")
    return wanted


def _changed_keys(known: frozenset[bytes], report: Report) -> frozenset[bytes]:
    """Return the message keys of all rows whose key changed, old and new ones."""
    if known or len(report.key_changes) > KEY_CHANGES_MAX:
        raise NotFoldableByKey("many key changes")
    messages = {message for message, _ in report.key_changes}
    others = {other for _, other in report.key_changes}
    # The other half of a key change may be missing: then its key is known as text only, and must be
    # written exactly as a message key would be.
    plain = {key for key in others | messages if _is_plain(key)}
    if not others <= messages and plain != others | messages:
        raise NotFoldableByKey("key changes whose keys are written in two ways")
    return frozenset(messages | others)


def _is_plain(key: bytes) -> bool:
    """Whether a JSON text is in its shortest form, in which equal keys are equal bytes."""
    try:
        return orjson.dumps(orjson.loads(key)) == key
    except orjson.JSONDecodeError:
        return False

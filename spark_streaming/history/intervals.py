"""Folds ordered changes of a table into versions of its rows, each valid from one commit to another.

Pure: keys, positions and numbers of image rows in, versions out. `docs/history.md` compares its
meaning with that of Databricks' AUTO CDC, point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

# A row's key as the table holds it: Python values in the contract's key order.
Key = tuple[Any, ...]

INSERT, UPDATE, DELETE, SNAPSHOT = "insert", "update", "delete", "snapshot"
KEY_CHANGE, TRUNCATE, RESYNC = "key change", "truncate", "resync"


class Instant(NamedTuple):
    """Where a change became visible: the LSN of its commit, and the source's time in microseconds."""

    lsn: int
    time_us: int


@dataclass(frozen=True)
class Version:
    """One version of a row.

    Args:
        image: the number of the image row with its values.
        lsn: of the change that made it.
        operation: insert, update, snapshot or key change.
        since: from when it is valid.
        cells: column number → the image with its value, for columns that the change left out.
        until: from when it is not valid any more; None while it is current.
        ended_by: update, delete, key change, truncate, snapshot or resync; None while it is current.
        quarantined: whether a later event of the row is in quarantine.
    """

    key: Key
    image: int
    lsn: int
    operation: str
    since: Instant
    cells: Mapping[int, int] = field(default_factory=dict)
    until: Instant | None = None
    ended_by: str | None = None
    quarantined: bool = False


class Step(NamedTuple):
    """One change, in the order of the source's stream.

    Args:
        op: c | u | d | r as Debezium names them; t: the rows below `lsn` go.
        at: where the change became visible.
        guard: the greatest `lsn` of a version that this change may end.
        image: the number of the image row; -1 for d and t.
        gaps: numbers of the columns whose value the event left out.
        old_key: the key that the row had, if it changed; `old_guard`: as `guard`, for that row.
        reason: why a d or t ends versions.
        refused: whether the event broke the contract, so that silver does not have it.
    """

    op: str
    key: Key
    lsn: int
    at: Instant
    guard: int
    image: int = -1
    gaps: tuple[int, ...] = ()
    old_key: Key | None = None
    old_guard: int = 0
    reason: str = DELETE
    refused: bool = False


class Floor(NamedTuple):
    """All versions below `lsn` ended `at` once; also those that no step names."""

    lsn: int
    at: Instant
    reason: str


@dataclass
class Intervals:
    """What some steps leave: the versions that ended, those that are current, and the floors, in order.

    refused: how many events were left out because they, or what they build on, broke the contract.
    """

    current: dict[Key, Version] = field(default_factory=dict)
    ended: list[Version] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    refused: int = 0


def intervals(
    stored: Iterable[Version],
    steps: Iterable[Step],
    *,
    each: bool,
    same: Callable[[Version, int], bool] = lambda version, image: False,
    ended: Callable[[Key], Version | None] = lambda key: None,
) -> Intervals:
    """Fold steps into versions.

    Args:
        stored: the current versions of the rows that the steps name, where there are any.
        each: whether versions that no reader ever saw are kept, because a later change of the same
            transaction ended them; else only the last of a transaction is.
        same: whether an image has a version's values. A row that is only read again is no version.
        ended: finds the last version of a row that is not current any more. Called only for a row
            whose key changed while a large value did not.
    """
    line = _Line({version.key: version for version in stored}, each, same, ended)
    for step in steps:
        line.apply(step)
    return line.found


class _Line:
    """The versions of some rows while steps are applied to them."""

    def __init__(
        self,
        current: dict[Key, Version],
        each: bool,
        same: Callable[[Version, int], bool],
        ended: Callable[[Key], Version | None],
    ) -> None:
        self.found = Intervals(current)
        self._each, self._same, self._stored_end = each, same, ended
        self._ends: dict[Key, Version] = {}  # the last version that ended here
        self._deleted: tuple[Key, int] | None = None  # by the last delete: key, LSN

    def apply(self, step: Step) -> None:
        """Apply the next step."""
        current = self.found.current
        if step.op == "t":
            for key in [key for key, version in current.items() if version.lsn < step.lsn]:
                self._end(key, step.at, step.reason)
            self.found.floors.append(Floor(step.lsn, step.at, step.reason))
            return
        there = current.get(step.key)
        if there is not None and step.guard < there.lsn:
            return  # late: what is there is newer
        if step.op == "d":
            self._deleted = (step.key, step.lsn)
            self._end(step.key, step.at, step.reason)
            return
        base = self._base(step, there)
        if step.refused or (step.gaps and (base is None or base.quarantined)):
            self._refuse(step, there)
            return
        if step.op == "r" and there and not there.quarantined and self._same(there, step.image):
            current[step.key] = replace(there, lsn=step.lsn)
            return
        cells = {n: base.cells.get(n, base.image) for n in step.gaps} if base else {}
        self._leave_old_key(step)
        operation = _operation(step)
        before = self._end(step.key, step.at, SNAPSHOT if step.op == "r" else UPDATE)
        if before is not None and operation == UPDATE and not self._is_kept(before):
            operation = before.operation  # nobody saw the version that it follows
        current[step.key] = Version(step.key, step.image, step.lsn, operation, step.at, cells)

    def _base(self, step: Step, there: Version | None) -> Version | None:
        """The version from which a step takes the values that its event left out."""
        if not step.gaps:
            return None
        key = step.old_key
        if key is None and step.op == "c" and self._deleted is not None:
            # The halves of a key change have one LSN; the header with the old key may be lost.
            key = self._deleted[0] if self._deleted[1] == step.lsn else None
        if key is None or key == step.key:
            return there
        return self.found.current.get(key) or self._ends.get(key) or self._stored_end(key)

    def _refuse(self, step: Step, there: Version | None) -> None:
        self.found.refused += 1
        if there is not None:
            self.found.current[step.key] = replace(there, quarantined=True)
        self._leave_old_key(step)

    def _leave_old_key(self, step: Step) -> None:
        if step.old_key is None or step.old_key == step.key:
            return
        old = self.found.current.get(step.old_key)
        if old is not None and old.lsn <= step.old_guard:
            self._end(step.old_key, step.at, KEY_CHANGE)

    def _end(self, key: Key, at: Instant, reason: str) -> Version | None:
        version = self.found.current.pop(key, None)
        if version is None:
            return None
        until, since = max(at, version.since, key=lambda one: one.lsn), version.since
        if version.operation == SNAPSHOT and until.time_us < since.time_us:
            # A snapshot's rows tell when they were read, not since when they have been so.
            since = since._replace(time_us=until.time_us)
        done = replace(version, since=since, until=until, ended_by=reason)
        self._ends[key] = done
        if self._is_kept(done):
            self.found.ended.append(done)
        return done

    def _is_kept(self, version: Version) -> bool:
        assert version.until is not None
        return self._each or version.until.lsn > version.since.lsn


def _operation(step: Step) -> str:
    if step.op == "r":
        return SNAPSHOT
    if step.old_key is not None and step.old_key != step.key:
        return KEY_CHANGE
    return INSERT if step.op == "c" else UPDATE

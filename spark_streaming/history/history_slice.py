"""Takes a slice of a table's events into its history: decode, mask, judge, fold, write in one commit.

Decoding, masks and conditions are those of silver's batches. A condition judges each version by
itself; one that reads a value which the event left out is not asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import Change, Changes, Decoded, RawEvent, Reject
from spark_streaming.events.position import START, Position
from spark_streaming.events.row_images import KEY_CHANGE_HEADERS, Images, Refused
from spark_streaming.fold.row_lookup import keys_in
from spark_streaming.history.dating import Dated
from spark_streaming.history.history_columns import versions_of
from spark_streaming.history.history_table import EACH, Progress, Replaced
from spark_streaming.history.intervals import (
    DELETE,
    KEY_CHANGE,
    RESYNC,
    SNAPSHOT,
    TRUNCATE,
    Floor,
    Instant,
    Intervals,
    Key,
    Step,
    Version,
    intervals,
)
from spark_streaming.rules.contract_folder import treat
from spark_streaming.rules.expectations import broken
from spark_streaming.rules.row_judge import true_rows
from spark_streaming.rules.rules import TableRules

_LAST = 2**63 - 1


class UnknownColumnsError(Exception):
    """Events have columns that the contract does not have: the history waits until silver has them."""


class Rows(Protocol):
    """A history table, as far as a slice needs it: `HistoryTable` says what each of these does."""

    progress: Progress

    def current(self, keys: set[Key]) -> pa.Table: ...

    def last_ended(self, keys: set[Key]) -> pa.Table: ...

    def write(
        self,
        images: pa.Table,
        new: Sequence[Version],
        replaced: Sequence[Replaced],
        floors: Sequence[Floor],
        progress: Progress,
        *,
        each: bool,
    ) -> None: ...


class Slices:
    """Writes slices of one table's events; `table` follows `contract`.

    Args:
        rules: the table's contract file; mode: each or last.
    """

    def __init__(
        self, table: Rows, contract: Contract, rules: TableRules, secret: bytes, mode: str
    ) -> None:
        self._table = table
        self._contract = contract
        self._rules = rules
        self._secret = secret
        self._each = mode == EACH

    def take(self, dated: Sequence[Dated]) -> Intervals:
        """Write the next events. A resync ends with the last of them, if one ends.

        Raises: UnknownColumnsError; what a commit to the table raises: then nothing is written.
        """
        progress = self._table.progress
        decoded = decode([one.event for one in dated], self._contract, progress.marks)
        if decoded.unknown_columns:
            names = ", ".join(sorted(decoded.unknown_columns))
            raise UnknownColumnsError(f"events have the column(s) {names}")
        plain, masked = treat(decoded.changes, self._rules, self._secret)
        seen = {(e.partition, e.offset): lsn for e, lsn in dated}
        steps, keys, gone = self._steps(decoded, masked, plain, seen)
        images, stored = self._with_stored(masked.images, keys, self._table.current)
        by_key: dict[Key, Version] = {}
        if gone:
            images, ended = self._with_stored(images, gone, self._table.last_ended)
            by_key = {version.key: version for version in ended}
        columns = images.columns
        found = intervals(
            stored,
            steps,
            each=self._each,
            same=lambda version, image: _is_same(columns, version, image),
            ended=by_key.get,
        )
        self._write(images, stored, found, _after(progress, dated, decoded))
        return found

    def _with_stored(
        self, images: pa.Table, keys: set[Key], read: Callable[[set[Key]], pa.Table]
    ) -> tuple[pa.Table, list[Version]]:
        """Append the rows that the table has of some keys to the images. Returns: them as versions, too."""
        if not keys:
            return images, []
        rows = read(keys)
        data = rows.select(images.column_names).cast(images.schema)
        versions = versions_of(rows, keys_in(data, self._contract.key), len(images))
        return pa.concat_tables([images, data]), versions

    def _write(
        self, images: pa.Table, stored: Sequence[Version], found: Intervals, progress: Progress
    ) -> None:
        before = {version.key: version for version in stored}
        replaced = [
            Replaced(key, found.current.get(key))
            for key, version in before.items()
            if found.current.get(key) is not version
        ]
        new = [
            *found.ended,
            *(version for key, version in found.current.items() if key not in before),
        ]
        self._table.write(images, new, replaced, found.floors, progress, each=self._each)

    def _steps(
        self,
        decoded: Decoded,
        masked: Changes,
        plain: Changes,
        seen: Mapping[tuple[int, int], int],
    ) -> tuple[list[Step], set[Key], set[Key]]:
        """The steps in order; the keys that they name; the old keys whose values they may need."""
        changes = masked.changes
        keys = keys_in(masked.images, self._contract.key)
        refused = self._refused(plain)

        def instant(event: RawEvent, time_us: int) -> Instant:
            return Instant(seen[event.partition, event.offset], time_us)

        ordered: list[tuple[Position, int, int, Step]] = []
        gone: set[Key] = set()
        for change in changes:
            at = instant(change.event, change.committed_us)
            step = _step(change, keys, at, masked.gaps, change.after in refused)
            if step.gaps and step.old_key is not None:
                gone.add(step.old_key)
            ordered.append((change.order, change.event.partition, change.event.offset, step))
        ordered += self._rejected(decoded.rejects, changes, instant)
        steps = [step for *_, step in sorted(ordered, key=lambda one: one[:3])]
        if masked.first_snapshot_lsn is not None:
            below = masked.first_snapshot_lsn
            first = next(c for c in changes if c.op == "r" and c.lsn == below)
            at = instant(first.event, first.committed_us)
            steps.insert(0, Step("t", (), below, at, _LAST, reason=SNAPSHOT))
        if masked.resync_lsn is not None:
            # The events of a slice end with the one that ends the resync.
            at = Instant(max(seen.values()), max((s.at.time_us for s in steps), default=0))
            steps.append(Step("t", (), masked.resync_lsn, at, _LAST, reason=RESYNC))
        named = {step.key for step in steps if step.op != "t"}
        return steps, named | {step.old_key for step in steps if step.old_key is not None}, gone

    def _rejected(
        self,
        rejects: Sequence[Reject],
        changes: Sequence[Change],
        instant: Callable[[RawEvent, int], Instant],
    ) -> list[tuple[Position, int, int, Step]]:
        """Steps that mark the rows of events which could not be decoded, as far as they tell their key."""
        if not rejects:
            return []
        orders: dict[int, list[tuple[int, Position]]] = {}
        for change in changes:
            place = change.event.offset, change.order
            orders.setdefault(change.event.partition, []).append(place)
        images, events = Images(self._contract), []
        for reject in rejects:
            try:
                images.key_row(reject.event.key, orjson.loads(reject.event.value or b"{}"))
                events.append(reject.event)
            except (Refused, ValueError, KeyError, TypeError, AttributeError):
                continue  # whose it is, nothing tells
        rows, bad = images.convert()
        treated = treat(Changes([], rows), self._rules, self._secret)[1].images
        found = []
        for number, (event, key) in enumerate(
            zip(events, keys_in(treated, self._contract.key), strict=True)
        ):
            if number in bad:
                continue
            some = orders.get(event.partition, [])
            before = bisect_right(some, event.offset, key=lambda one: one[0])
            order = some[before - 1][1] if before else START
            step = Step("u", key, _LAST, instant(event, 0), _LAST, refused=True)
            found.append((order, event.partition, event.offset, step))
        return found

    def _refused(self, plain: Changes) -> set[int]:
        """The images that break a condition whose action is `quarantine`."""
        rules = [rule for rule in self._rules.rules if rule.action == "quarantine"]
        written = [change.after for change in plain.changes if change.op in "cur"]
        if not rules or not written:
            return set()
        rows = plain.images.take(pa.array(written, pa.int64()))
        names = [column.name for column in self._contract.columns]
        left_out = [{names[n] for n in plain.gaps.get(image, ())} for image in written]
        found: set[int] = set()
        for rule, array in zip(rules, broken(rows, rules), strict=True):
            unknown = pa.array([not one.isdisjoint(rule.columns) for one in left_out], pa.bool_())
            found |= {written[n] for n in true_rows(pc.and_(array, pc.invert(unknown)))}
        return found


def _step(
    change: Change,
    keys: Sequence[Key],
    at: Instant,
    gaps: Mapping[int, tuple[int, ...]],
    refused: bool,
) -> Step:
    if change.op == "t":
        return Step("t", (), change.lsn, at, _LAST, reason=TRUNCATE)
    if change.op == "d":
        is_half = any(name in KEY_CHANGE_HEADERS for name, _ in change.event.headers)
        reason = KEY_CHANGE if is_half else DELETE
        return Step("d", keys[change.after], change.lsn, at, change.guard, reason=reason)
    old_key = None if change.old_key is None else keys[change.old_image]
    resumes = change.resumes_key_change or change.op == "u"
    return Step(
        change.op,
        keys[change.after],
        change.lsn,
        at,
        change.guard,
        change.after,
        gaps.get(change.after, ()),
        old_key,
        change.guard if resumes else change.lsn,
        refused=refused,
    )


def _is_same(columns: Sequence[pa.ChunkedArray], version: Version, image: int) -> bool:
    for number, column in enumerate(columns):
        place = version.cells.get(number, version.image)
        if not _equal(column[place].as_py(), column[image].as_py()):
            return False
    return True


def _equal(one: object, other: object) -> bool:
    return one == other or (one != one and other != other)  # NaN is NaN


def _after(progress: Progress, dated: Sequence[Dated], decoded: Decoded) -> Progress:
    offsets, reached = dict(progress.offsets), dict(progress.reached)
    for event, lsn in dated:
        offsets[event.partition] = max(offsets.get(event.partition, 0), event.offset + 1)
        reached[event.partition] = max(reached.get(event.partition, 0), lsn)
    return Progress(offsets, reached, progress.marks.merge(decoded.high_water))

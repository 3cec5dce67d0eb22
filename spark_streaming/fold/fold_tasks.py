"""A Spark task that decodes and folds the events of some keys, as the driver would.

Nothing here imports Spark: a task is a function on Arrow batches (`mapInArrow`). Its output is one
frame with folded rows, rejects, forwarded events and one report. Column TAG has the kind of a row;
all but folded rows are pickled in column CARRIED.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.contract import Contract
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import Decoded, RawEvent, Reject
from spark_streaming.events.layout import layout_of
from spark_streaming.events.position import HighWater
from spark_streaming.events.row_images import KEY_CHANGE_HEADERS
from spark_streaming.fold.keyed import Folded, fold
from spark_streaming.fold.row_lookup import Key, present_keys
from spark_streaming.storage.lake import Lake

TAG, CARRIED = "_headwater_tag", "_headwater_carried"
ROW, REJECT, EVENT, REPORT = "row", "reject", "event", "report"
# What one Python worker may hold. A row of 1 KB takes ten times that while it is folded.
TASK_EVENTS_MAX = 60_000
TASK_BYTES_MAX = 64 << 20
# With more key changes than this, running the tasks again does not pay.
KEY_CHANGES_MAX = 5_000
_CARRIED_ROWS = 500
_RANGED = (pa.types.is_integer, pa.types.is_string, pa.types.is_date)


@dataclass(frozen=True)
class PinnedTable:
    """A silver table at one version, for look-ups by workers; picklable."""

    lake: Lake
    path: str
    version: int
    contract: Contract

    def handle(self) -> Any:
        """The Delta table at that version."""
        return self.lake.table(self.path, self.version)

    def present(self, keys: list[Key]) -> set[Key]:
        """Return those of the keys that have a row."""
        return present_keys(self, keys)


class Lookup(Protocol):
    """Finds out which keys a silver table has. It is sent to the tasks, so it can be pickled."""

    def present(self, keys: list[Key]) -> set[Key]: ...


@dataclass(frozen=True)
class Report:
    """What one task, or all tasks of a part, found in its events.

    Args:
        events, size: number of events, and the bytes of their keys and values.
        largest: bytes of the largest task.
        too_large: whether a task got more than a worker may hold, and folded nothing.
        key_changes: (message key, old or new key) of key changes, which must be folded together.
        depends_on_other_keys: whether some event cannot be decoded without those of other keys.
        snapshot_attempts: as in `Decoded`; with several, `depends_on_other_keys` is true.
        rejected, forwarded: number of rejects, and of events that were forwarded to the driver.
        newest: the greatest commit time of the folded rows.
        rows: number of folded rows.
        keeps: columns with a `_keep_` flag.
        bounds: least and greatest value of the key columns by which files can be skipped.
    """

    events: int = 0
    size: int = 0
    largest: int = 0
    too_large: bool = False
    key_changes: frozenset[tuple[bytes, bytes]] = frozenset()
    depends_on_other_keys: bool = False
    snapshot_attempts: frozenset[int] = frozenset()
    high_water: HighWater = field(default_factory=HighWater)
    skipped: int = 0
    rejected: int = 0
    forwarded: int = 0
    unknown_columns: frozenset[str] = frozenset()
    stale_columns: frozenset[str] = frozenset()
    last_committed_us: int = 0
    newest: datetime | None = None
    rows: int = 0
    keeps: frozenset[str] = frozenset()
    bounds: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def merge(self, other: Report) -> Report:
        """Combine two reports into one."""
        newest = [moment for moment in (self.newest, other.newest) if moment is not None]
        bounds = dict(self.bounds)
        for name, (low, high) in other.bounds.items():
            known = bounds.get(name, (low, high))
            bounds[name] = (min(low, known[0]), max(high, known[1]))
        return Report(
            events=self.events + other.events,
            size=self.size + other.size,
            largest=max(self.largest, other.largest),
            too_large=self.too_large or other.too_large,
            key_changes=self.key_changes | other.key_changes,
            depends_on_other_keys=self.depends_on_other_keys
            or other.depends_on_other_keys
            or len(self.snapshot_attempts | other.snapshot_attempts) > 1,
            snapshot_attempts=self.snapshot_attempts | other.snapshot_attempts,
            high_water=self.high_water.merge(other.high_water),
            skipped=self.skipped + other.skipped,
            rejected=self.rejected + other.rejected,
            forwarded=self.forwarded + other.forwarded,
            unknown_columns=self.unknown_columns | other.unknown_columns,
            stale_columns=self.stale_columns | other.stale_columns,
            last_committed_us=max(self.last_committed_us, other.last_committed_us),
            newest=max(newest, default=None),
            rows=self.rows + other.rows,
            keeps=self.keeps | other.keeps,
            bounds=bounds,
        )


def output_schema(contract: Contract) -> pa.Schema:
    """Return the columns of a task's output: `Folded.rows` with every flag, TAG and CARRIED."""
    return pa.schema(
        [
            *contract.data_schema,
            ("_lsn", pa.int64()),
            ("_committed_at", pa.timestamp("us", "UTC")),
            ("_op", pa.string()),
            ("_guard_lsn", pa.int64()),
            *((f"_keep_{c.name}", pa.bool_()) for c in contract.columns if c.toastable),
            (TAG, pa.string()),
            (CARRIED, pa.binary()),
        ]
    )


@dataclass(frozen=True)
class FoldTask:
    """Folds all events that some keys of one topic have in a batch, from all partitions.

    Args:
        high_water: the topic's mark as the last batch left it.
        silver: the table as it was before this batch; None if it is empty.
        fold: whether to fold; False if the table has this batch already and only positions and
            counts are needed.
    """

    contract: Contract
    high_water: HighWater
    silver: Lookup | None
    fold: bool = True

    def run(self, events: Iterator[RawEvent]) -> Iterator[pa.RecordBatch]:
        """Decode and fold a task's events into rows, rejects and one report."""
        if not self.fold:
            yield from self._output([], [], self._positions(events))
            return
        collected, report = _collect(events)
        if report.too_large or report.key_changes:
            yield from self._output([], [], report)
            return
        if not collected:
            return
        decoded = decode(collected, self.contract, self.high_water)
        report = report.merge(_report_of_decoded(decoded, self.contract))
        if report.depends_on_other_keys:
            yield from self._output([], [], report)
            return
        folded = fold(decoded.changes, self.contract, _never_called, self._find_keys)
        rejects = [*decoded.rejects, *folded.rejects]
        report = report.merge(report_of_rows(folded, self.contract, len(rejects)))
        yield from self._output(
            folded.rows.to_batches(), [(REJECT, reject) for reject in rejects], report
        )

    def forward(self, events: Iterator[RawEvent]) -> Iterator[pa.RecordBatch]:
        """Forward the events to the driver as they are."""
        collected, report = _collect(events)
        if not report.events:
            return
        carried: list[tuple[str, RawEvent]] = (
            [] if report.too_large else [(EVENT, event) for event in collected]
        )
        report = Report(
            events=report.events,
            size=report.size,
            largest=report.largest,
            too_large=report.too_large,
            forwarded=len(carried),
        )
        yield from self._output([], carried, report)

    def _find_keys(self, keys: list[Key]) -> set[Key]:
        return set() if self.silver is None else self.silver.present(keys)

    def _positions(self, events: Iterator[RawEvent]) -> Report:
        """Decode in pieces, each from where the last one ended, and keep only the counts."""
        report, high_water = Report(), self.high_water
        for piece in _pieces(events):
            decoded = decode(piece, self.contract, high_water)
            high_water = high_water.merge(decoded.high_water)
            report = report.merge(
                Report(
                    events=len(piece),
                    high_water=decoded.high_water,
                    skipped=decoded.skipped,
                    rejected=len(decoded.rejects),
                    last_committed_us=decoded.last_committed_us,
                )
            )
        return report

    def _output(
        self,
        rows: Iterable[pa.RecordBatch],
        carried: Sequence[tuple[str, Reject | RawEvent]],
        report: Report,
    ) -> Iterator[pa.RecordBatch]:
        schema = output_schema(self.contract)
        for batch in rows:
            if len(batch):
                yield _row_batch(batch, schema)
        for start in range(0, len(carried), _CARRIED_ROWS):
            yield _carried_batch(carried[start : start + _CARRIED_ROWS], schema)
        yield _carried_batch([(REPORT, report)], schema)


def _never_called(keys: list[Key]) -> dict[Key, dict[str, Any]]:
    raise AssertionError(f"a key change was folded by its key alone: {len(keys)} keys")


def _collect(events: Iterator[RawEvent]) -> tuple[list[RawEvent], Report]:
    """Collect the events (none if they are more than a worker may hold), and count all of them."""
    collected: list[RawEvent] = []
    count = size = 0
    key_changes: set[tuple[bytes, bytes]] = set()
    for event in events:
        count += 1
        size += len(event.value or b"") + len(event.key or b"")
        for name, value in event.headers:
            if name in KEY_CHANGE_HEADERS and len(key_changes) <= KEY_CHANGES_MAX:
                key_changes.add((event.key or b"", value or b""))
        if count <= TASK_EVENTS_MAX and size <= TASK_BYTES_MAX:
            collected.append(event)
        else:
            collected.clear()
    too_large = count > TASK_EVENTS_MAX or size > TASK_BYTES_MAX
    report = Report(
        events=count,
        size=size,
        largest=size,
        too_large=too_large,
        key_changes=frozenset(key_changes),
    )
    return collected, report


def _pieces(events: Iterator[RawEvent]) -> Iterator[list[RawEvent]]:
    piece: list[RawEvent] = []
    size = 0
    for event in events:
        piece.append(event)
        size += len(event.value or b"")
        if len(piece) >= TASK_EVENTS_MAX or size >= TASK_BYTES_MAX:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _report_of_decoded(decoded: Decoded, contract: Contract) -> Report:
    """Return the decoder's findings in a task's events, except the changes."""
    gaps = decoded.changes.gaps
    names = set(layout_of(contract).key_names)
    depends_on_other_keys = decoded.depends_on_other_keys
    checked = False
    for change in decoded.changes.changes:
        # After a key change, or without the row's key in the message key, the row's other events
        # may be in another task.
        if (
            change.old_key is not None
            or change.event.key is None
            or (change.op == "c" and change.after in gaps)
        ):
            depends_on_other_keys = True
        elif not checked:
            checked = True
            depends_on_other_keys = depends_on_other_keys or _names(change.event.key) != names
    return Report(
        depends_on_other_keys=depends_on_other_keys or len(decoded.snapshot_attempts) > 1,
        snapshot_attempts=decoded.snapshot_attempts,
        high_water=decoded.high_water,
        skipped=decoded.skipped,
        unknown_columns=frozenset(decoded.unknown_columns),
        stale_columns=frozenset(decoded.stale_columns),
        last_committed_us=decoded.last_committed_us,
    )


def _names(message_key: bytes) -> set[str]:
    try:
        key = orjson.loads(message_key)
    except orjson.JSONDecodeError:
        return set()
    return set(key) if isinstance(key, dict) else set()


def report_of_rows(folded: Folded, contract: Contract, rejected: int) -> Report:
    """Return the facts about folded rows that the merge needs."""
    rows = folded.rows
    if not len(rows):
        return Report(rejected=rejected)
    bounds = {}
    for name in contract.key:
        if any(is_kind(rows[name].type) for is_kind in _RANGED):
            ends = pc.min_max(rows[name]).as_py()
            bounds[name] = (ends["min"], ends["max"])
    return Report(
        rejected=rejected,
        newest=pc.max(rows["_committed_at"]).as_py(),
        rows=len(rows),
        keeps=frozenset(folded.keep_columns),
        bounds=bounds,
    )


def as_output(rows: pa.Table, contract: Contract) -> pa.Table:
    """Return folded rows in the form of a task's output."""
    schema = output_schema(contract)
    return pa.Table.from_batches([_row_batch(b, schema) for b in rows.to_batches()], schema)


def _row_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    count = len(batch)
    columns = []
    for wanted in schema:
        if wanted.name == TAG:
            columns.append(pa.array([ROW] * count, pa.string()))
        elif wanted.name in batch.schema.names:
            columns.append(batch.column(wanted.name).cast(wanted.type))
        elif pa.types.is_boolean(wanted.type):
            columns.append(pa.array([False] * count, pa.bool_()))
        else:
            columns.append(pa.nulls(count, wanted.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _carried_batch(
    carried: Sequence[tuple[str, Reject | RawEvent | Report]], schema: pa.Schema
) -> pa.RecordBatch:
    columns = [pa.nulls(len(carried), field.type) for field in schema]
    columns[-2] = pa.array([tag for tag, _ in carried], pa.string())
    columns[-1] = pa.array([pickle.dumps(what) for _, what in carried], pa.binary())
    return pa.RecordBatch.from_arrays(columns, schema=schema)

"""What a Spark task does with its keys' events: decode and fold them, as the driver would.

Nothing here imports Spark: a task is a function on Arrow batches (`mapInArrow`). Its output is
one frame: folded rows, and beside them (column TAG) rejects, events that it hands on, and one
report, each pickled in CARRIED.
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

from spark_streaming.contract import Contract
from spark_streaming.envelope import decode
from spark_streaming.events import Decoded, RawEvent, Reject
from spark_streaming.fold import Folded, fold
from spark_streaming.images import KEY_CHANGE_HEADERS
from spark_streaming.lake import Lake
from spark_streaming.layout import layout_of
from spark_streaming.lookup import Key, present_keys
from spark_streaming.position import HighWater

TAG, CARRIED = "_headwater_tag", "_headwater_carried"
ROW, REJECT, EVENT, REPORT = "row", "reject", "event", "report"
# What one Python worker holds at once. A row of 1 KB takes ten times that while it is folded.
TASK_EVENTS_MAX = 60_000
TASK_BYTES_MAX = 64 << 20
# More key changes than these are not worth a detour.
MOVES_MAX = 5_000
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
        """Those of the keys that have a row."""
        return present_keys(self, keys)


class Lookup(Protocol):
    """Tells which keys a silver table has; goes to the tasks, so it can be pickled."""

    def present(self, keys: list[Key]) -> set[Key]: ...


@dataclass(frozen=True)
class Report:
    """What one task, or all of a part's, met.

    Args:
        events, size: read, and the bytes of their keys and values.
        largest: bytes of the largest task.
        too_large: a task was given more than a worker may hold, and folded nothing.
        moves: message keys and old or new keys of key changes, which need folding together.
        apart: something cannot be decoded by some keys' events alone.
        tries: see `Decoded`; where they are several, `apart`.
        rows, keeps, bounds: of the folded rows: number, columns with a `_keep_` flag, least and
            greatest value of the key columns that files can be skipped by.
    """

    events: int = 0
    size: int = 0
    largest: int = 0
    too_large: bool = False
    moves: frozenset[tuple[bytes, bytes]] = frozenset()
    apart: bool = False
    tries: frozenset[int] = frozenset()
    high_water: HighWater = field(default_factory=HighWater)
    skipped: int = 0
    rejected: int = 0
    handed_on: int = 0
    unknown_columns: frozenset[str] = frozenset()
    stale_columns: frozenset[str] = frozenset()
    last_committed_us: int = 0
    newest: datetime | None = None
    rows: int = 0
    keeps: frozenset[str] = frozenset()
    bounds: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def merge(self, other: Report) -> Report:
        """Both as one."""
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
            moves=self.moves | other.moves,
            apart=self.apart or other.apart or len(self.tries | other.tries) > 1,
            tries=self.tries | other.tries,
            high_water=self.high_water.merge(other.high_water),
            skipped=self.skipped + other.skipped,
            rejected=self.rejected + other.rejected,
            handed_on=self.handed_on + other.handed_on,
            unknown_columns=self.unknown_columns | other.unknown_columns,
            stale_columns=self.stale_columns | other.stale_columns,
            last_committed_us=max(self.last_committed_us, other.last_committed_us),
            newest=max(newest, default=None),
            rows=self.rows + other.rows,
            keeps=self.keeps | other.keeps,
            bounds=bounds,
        )


def output_schema(contract: Contract) -> pa.Schema:
    """The columns of a task's output: `Folded.rows` with every possible flag, tag and carried."""
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
    """Folds the events of some keys of one topic: all of them in a batch, whatever partition.

    Args:
        high_water: the topic's, as the last batch left it.
        silver: the table as it was before this batch; None where it is empty.
        fold: False: the table has this batch already, only positions and counts are wanted.
    """

    contract: Contract
    high_water: HighWater
    silver: Lookup | None
    fold: bool = True

    def run(self, events: Iterator[RawEvent]) -> Iterator[pa.RecordBatch]:
        """Take a task's events in; rows, rejects and one report come out."""
        if not self.fold:
            yield from self._output([], [], self._positions(events))
            return
        held, report = _hold(events)
        if report.too_large or report.moves:
            yield from self._output([], [], report)
            return
        if not held:
            return
        decoded = decode(held, self.contract, self.high_water)
        report = report.merge(_met(decoded, self.contract))
        if report.apart:
            yield from self._output([], [], report)
            return
        folded = fold(decoded.changes, self.contract, _nowhere, self._present)
        rejects = [*decoded.rejects, *folded.rejects]
        report = report.merge(report_of_rows(folded, self.contract, len(rejects)))
        yield from self._output(
            folded.rows.to_batches(), [(REJECT, reject) for reject in rejects], report
        )

    def hand_on(self, events: Iterator[RawEvent]) -> Iterator[pa.RecordBatch]:
        """Hand the events on to the driver, as they are."""
        held, report = _hold(events)
        if not report.events:
            return
        carried: list[tuple[str, RawEvent]] = (
            [] if report.too_large else [(EVENT, event) for event in held]
        )
        report = Report(
            events=report.events,
            size=report.size,
            largest=report.largest,
            too_large=report.too_large,
            handed_on=len(carried),
        )
        yield from self._output([], carried, report)

    def _present(self, keys: list[Key]) -> set[Key]:
        return set() if self.silver is None else self.silver.present(keys)

    def _positions(self, events: Iterator[RawEvent]) -> Report:
        """Decode in pieces, each from where the last one ended: only the counts are kept."""
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


def _nowhere(keys: list[Key]) -> dict[Key, dict[str, Any]]:
    raise AssertionError(f"a key change was folded by its key alone: {len(keys)} keys")


def _hold(events: Iterator[RawEvent]) -> tuple[list[RawEvent], Report]:
    """The events as far as a worker may hold them, counted to the end."""
    held: list[RawEvent] = []
    count = size = 0
    moves: set[tuple[bytes, bytes]] = set()
    for event in events:
        count += 1
        size += len(event.value or b"") + len(event.key or b"")
        for name, value in event.headers:
            if name in KEY_CHANGE_HEADERS and len(moves) <= MOVES_MAX:
                moves.add((event.key or b"", value or b""))
        if count <= TASK_EVENTS_MAX and size <= TASK_BYTES_MAX:
            held.append(event)
        else:
            held.clear()
    too_large = count > TASK_EVENTS_MAX or size > TASK_BYTES_MAX
    report = Report(
        events=count, size=size, largest=size, too_large=too_large, moves=frozenset(moves)
    )
    return held, report


def _pieces(events: Iterator[RawEvent]) -> Iterator[list[RawEvent]]:
    held: list[RawEvent] = []
    size = 0
    for event in events:
        held.append(event)
        size += len(event.value or b"")
        if len(held) >= TASK_EVENTS_MAX or size >= TASK_BYTES_MAX:
            yield held
            held, size = [], 0
    if held:
        yield held


def _met(decoded: Decoded, contract: Contract) -> Report:
    """What decoding tells of a task's events, beside the changes."""
    gaps = decoded.changes.gaps
    names = set(layout_of(contract).key_names)
    apart = decoded.by_place
    checked = False
    for change in decoded.changes.changes:
        # A key that changed, or a row that is not found by its message key: the row's other
        # events may be in another task.
        if (
            change.old_key is not None
            or change.event.key is None
            or (change.op == "c" and change.after in gaps)
        ):
            apart = True
        elif not checked:
            checked = True
            apart = apart or _names(change.event.key) != names
    return Report(
        apart=apart or len(decoded.tries) > 1,
        tries=decoded.tries,
        high_water=decoded.high_water,
        skipped=decoded.skipped,
        unknown_columns=frozenset(decoded.unknown_columns),
        stale_columns=frozenset(decoded.stale_columns),
        last_committed_us=decoded.last_committed_us,
    )


def _names(message_key: bytes) -> set[str]:
    try:
        found = orjson.loads(message_key)
    except orjson.JSONDecodeError:
        return set()
    return set(found) if isinstance(found, dict) else set()


def report_of_rows(folded: Folded, contract: Contract, rejected: int) -> Report:
    """What the merge has to know of folded rows."""
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
    """Folded rows as a task's output has them."""
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

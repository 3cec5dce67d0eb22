"""Makes the ledger's rows of a batch: one for each table's part, one for the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.batch.part import Merged, Stopped
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.position import HighWater
from spark_streaming.ops.ledger import WHOLE_BATCH, LedgerRow
from spark_streaming.ops.stopped import FAILING, REFUSED, RUNNING, Stop
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.tables.engine_protocol import MergeResult


def running_row(
    query_id: str,
    batch_id: int,
    part: Merged,
    span: BatchSpan,
    complete_lsn: Lsn | None,
    generation: str = "",
) -> LedgerRow:
    """The row of a table that is not stopped."""
    topic = part.topic
    return replace(
        _merged(query_id, batch_id, topic.ledger_name, part),
        offsets=span.of({topic.name}).end,
        high_water=part.taken.high_water,
        complete_lsn=None if topic.silver is None or not part.claims else complete_lsn,
        source_time=part.source_time,
        state=REFUSED if topic.refusal else RUNNING,
        generation=generation or None,
    )


def stopped_row(query_id: str, batch_id: int, stop: Stop, part: Merged) -> LedgerRow:
    """The row of a stopped table, with the events of it that this batch merged."""
    return replace(
        _merged(query_id, batch_id, stop.table, part),
        offsets={stop.topic: dict(stop.offsets)},
        high_water=part.topic.high_water,
        complete_lsn=stop.complete_lsn,
        source_time=stop.complete_time,
        state=stop.state,
        reason=stop.reason,
        stopped_at=stop.since,
        tries=stop.attempts,
        planned=stop.planned,
        generation=stop.generation or None,
    )


def failing_rows(
    query_id: str, batch_id: int, parts: Sequence[Stopped], tries: Mapping[str, int]
) -> list[LedgerRow]:
    """The rows of tables that made their batch fail; `tries`: how often, by silver table."""
    rows = [
        # The slices before the failed one are merged, and set the table's version.
        stopped_row(query_id, batch_id, part.stop, only_version(part.done))
        for part in parts
        if not part.topic.internal
    ]
    return [replace(r, state=FAILING, tries=tries[r.table_name], planned=None) for r in rows]


def only_version(part: Merged) -> Merged:
    """Keep only the Delta version of a part; another row counts its merged events."""
    result = MergeResult(part.result.delta_version) if part.result else None
    return replace(Merged.nothing(part.topic), result=result)


def whole_row(
    query_id: str,
    batch_id: int,
    parts: Sequence[Merged],
    rows: Sequence[LedgerRow],
    span: BatchSpan,
    complete_lsn: Lsn | None,
    complete_time: datetime | None,
) -> LedgerRow:
    """The row of the whole batch; it also has the positions of internal topics."""
    internal = {
        where: position
        for part in parts
        if part.topic.internal
        for where, position in part.taken.high_water.positions.items()
    }
    return LedgerRow(
        query_id,
        batch_id,
        WHOLE_BATCH,
        rows_in=sum(part.taken.rows_in for part in parts),
        rows_inserted=sum(row.rows_inserted for row in rows),
        rows_updated=sum(row.rows_updated for row in rows),
        rows_deleted=sum(row.rows_deleted for row in rows),
        rows_quarantined=sum(row.rows_quarantined for row in rows),
        rows_skipped=sum(row.rows_skipped for row in rows),
        offsets=span.of(set(span.sizes())).end,
        high_water=HighWater(internal),
        complete_lsn=complete_lsn,
        source_time=complete_time,
    )


def _merged(query_id: str, batch_id: int, table: str, part: Merged) -> LedgerRow:
    """A row with the counts of a merged part, still without its completeness."""
    result = part.result
    return LedgerRow(
        query_id,
        batch_id,
        table,
        delta_version=result.delta_version if result else None,
        engine=part.engine,
        rows_in=part.taken.rows_in,
        rows_inserted=result.inserted if result else 0,
        rows_updated=result.updated if result else 0,
        rows_deleted=result.deleted if result else 0,
        rows_missing=result.missing if result else 0,
        rows_quarantined=part.rejected,
        rows_skipped=part.taken.skipped,
        duration_ms=int(part.seconds * 1000),
        refusal=part.topic.refusal,
    )


def newest(rows: pa.Table) -> datetime | None:
    """The newest commit time in the source of folded rows."""
    return pc.max(rows["_committed_at"]).as_py() if len(rows) else None


def step_times(clock: list[float]) -> str:
    """The duration of each step of a batch in milliseconds, as text; `clock`: their borders."""
    names = ("read", "fold", "merge", "ledger")
    times = [int((end - begin) * 1000) for begin, end in pairwise(clock)]
    return ", ".join(f"{name} {ms} ms" for name, ms in zip(names, times, strict=True))

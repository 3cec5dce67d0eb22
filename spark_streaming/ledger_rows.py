"""What the ledger keeps of one table's part of a batch."""

from __future__ import annotations

from spark_streaming.ledger import LedgerRow
from spark_streaming.offsets import BatchSpan
from spark_streaming.part import Part
from spark_streaming.stopped import REFUSED, RUNNING


def running_row(
    query_id: str, batch_id: int, part: Part, span: BatchSpan, complete_lsn: int | None
) -> LedgerRow:
    """The row of a table that is not stopped; for those see `resume.stopped_row`."""
    topic, result = part.topic, part.result
    refused = topic.silver is None
    return LedgerRow(
        query_id,
        batch_id,
        topic.silver_name,
        delta_version=result.delta_version if result else None,
        engine=part.engine,
        rows_in=part.rows_in,
        rows_upserted=result.upserted if result else 0,
        rows_deleted=result.deleted if result else 0,
        rows_quarantined=part.rows_quarantined,
        rows_skipped=part.skipped,
        offsets=span.of({topic.name}).end,
        high_water=part.high_water,
        complete_lsn=None if refused else complete_lsn,
        source_time=part.source_time,
        duration_ms=int(part.seconds * 1000),
        refusal=topic.refusal,
        state=REFUSED if topic.refusal else RUNNING,
    )

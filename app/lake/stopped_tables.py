"""Finds tables that silver does not merge, and silver itself if it merges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone

import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.health.problem import Problem, one_line
from app.lake.lakehouse import Lakehouse, LedgerEntry
from spark_streaming.ops.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.ops.stopped import FAILING, REFUSED, RUNNING
from spark_streaming.storage.lake import LEDGER

# A heartbeat makes a batch every five seconds; a large batch takes longer.
BATCH_WITHIN = timedelta(seconds=60)
_HINTS = {
    REFUSED: "`./headwater logs silver` says which change; `./headwater contract plan` what is possible",
    FAILING: "the batch is repeated; `./headwater logs silver`",
}


def silver_problems(settings: Settings) -> list[Problem]:
    """List tables that are not running, and silver itself if it merges nothing while events wait.

    Raises: DeltaError, OSError, KafkaError.
    """
    lakehouse = Lakehouse(settings)
    try:
        ledger = lakehouse.lake.table(LEDGER)
    except TableNotFoundError:
        return []  # before the first batch
    problems = table_problems(lakehouse.ledger(opened=ledger).values())
    batch = last_batch(ledger)
    now = datetime.now(timezone.utc)
    if batch is not None and now - batch[0] > BATCH_WITHIN:
        waiting = events_waiting(settings.kafka, batch[1])
        if waiting:
            ago = f"{(now - batch[0]).total_seconds():.0f} s ago"
            cause = f"{waiting:,} offsets wait in Kafka; its last batch ended {ago}"
            problems.append(Problem("silver", "not merging", cause, "`./headwater logs silver`"))
    return problems


def table_problems(entries: Iterable[LedgerEntry]) -> list[Problem]:
    """List the tables that are not running, with silver's reason."""
    return [
        Problem(
            f"table {entry.table}",
            entry.state,
            one_line(entry.reason or "silver gives no reason"),
            _HINTS.get(entry.state, f"repair the cause, then `./headwater resume {entry.table}`"),
        )
        for entry in sorted(entries, key=lambda one: one.table)
        if entry.state != RUNNING and entry.table != WHOLE_BATCH
    ]


def last_batch(ledger: DeltaTable) -> tuple[datetime, Mapping[str, Mapping[int, int]]] | None:
    """Return when silver's newest batch ended, and its topic → partition → next offset."""
    rows = (
        ledger.to_pyarrow_dataset()
        .to_table(columns=["merged_at", "offsets"], filter=pc.field("table_name") == WHOLE_BATCH)
        .sort_by("merged_at")
    )
    if not rows.num_rows:
        return None
    newest = rows.slice(rows.num_rows - 1).to_pylist()[0]
    return newest["merged_at"], offsets_of(newest["offsets"])


def events_waiting(kafka: str, positions: Mapping[str, Mapping[int, int]]) -> int:
    """Count the offsets that Kafka has after these positions, including transaction markers."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=kafka, request_timeout_ms=5_000, isolation_level="read_committed"
    )
    try:
        read = {
            TopicPartition(topic, number): offset
            for topic, partitions in positions.items()
            for number, offset in partitions.items()
        }
        ends = consumer.end_offsets(list(read))
        return sum(max(0, ends[place] - offset) for place, offset in read.items() if place in ends)
    finally:
        consumer.close()

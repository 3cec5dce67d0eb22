"""Finds tables that silver does not merge, and silver itself if it merges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone

import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from app.environment.ports import instance_name
from app.environment.settings import Settings
from app.health.problem import Problem, one_line
from app.lake.lakehouse import Lakehouse, LedgerEntry
from spark_streaming.ops.ledger import WHOLE_BATCH, offsets_of
from spark_streaming.ops.stopped import FAILING, REFUSED, RUNNING
from spark_streaming.ops.whole_batches import COLUMNS, WholeBatches
from spark_streaming.storage.kafka_cluster import KafkaCluster
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
    now = datetime.now(timezone.utc)
    for number, (at, positions) in enumerate(last_batches(ledger), 1):
        waiting = events_waiting(settings.kafka, positions) if now - at > BATCH_WITHIN else 0
        if waiting:
            name = instance_name("silver", number)
            ago = f"{(now - at).total_seconds():.0f} s ago"
            cause = f"{waiting:,} offsets wait in Kafka; its last batch ended {ago}"
            problems.append(Problem(name, "not merging", cause, f"`./headwater logs {name}`"))
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


def last_batches(ledger: DeltaTable) -> list[tuple[datetime, Mapping[str, Mapping[int, int]]]]:
    """Return of each job of silver when its newest batch ended, and its topic → partition → next offset."""
    dataset = ledger.to_pyarrow_dataset()
    columns = {"merged_at", "offsets", *COLUMNS} & set(dataset.schema.names)
    whole = pc.field("table_name") == WHOLE_BATCH
    rows = dataset.to_table(columns=sorted(columns), filter=whole).to_pylist()
    jobs = WholeBatches(rows).jobs()
    return [(one.at, offsets_of(one.offsets)) for one in jobs if one.at is not None]


def events_waiting(kafka: KafkaCluster, positions: Mapping[str, Mapping[int, int]]) -> int:
    """Count the offsets that Kafka has after these positions, including transaction markers."""
    from kafka import TopicPartition

    from spark_streaming.storage.kafka_consumer import BoundedConsumer

    consumer = BoundedConsumer(
        **kafka.options, request_timeout_ms=5_000, isolation_level="read_committed"
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

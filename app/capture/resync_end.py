"""Reads from the source for a resync, beside Debezium, and writes the event that ends it in Kafka."""

from __future__ import annotations

import time

from kafka import KafkaProducer

from app.connectors.keyless_topics import admin, create_topics, partitions_of
from app.source.database import Connection
from app.source.source_tables import SourceTable
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.names import topic_of
from spark_streaming.events.resync_events import ResyncEnd, resync_end
from spark_streaming.storage.kafka_cluster import KafkaCluster

_WITHIN_S = 30
# A table with all of its partitions.
_TREE = """
WITH RECURSIVE tree AS (
    SELECT c.oid, c.relkind FROM pg_class c WHERE c.oid = %s
    UNION ALL
    SELECT c.oid, c.relkind FROM tree
    JOIN pg_inherits i ON i.inhparent = tree.oid AND tree.relkind = 'p'
    JOIN pg_class c ON c.oid = i.inhrelid
)
"""
# A transaction that writes to a table holds one of these locks until it ends.
_WRITERS = (
    _TREE
    + """
SELECT DISTINCT l.virtualtransaction FROM pg_locks l JOIN tree ON tree.oid = l.relation
WHERE l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                 'AccessExclusiveLock')
"""
)
_SHAPE = "SELECT relfilenode::text FROM pg_class WHERE oid = %s AND relkind = 'r'"


def log_end(connection: Connection) -> Lsn:
    """Return the log's end: everything that is written from now on has a higher position."""
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return Lsn(int(row[0]))


def writers_of(connection: Connection, table: SourceTable) -> set[str]:
    """Return the open transactions that have written to a table, or are about to."""
    return {str(found) for (found,) in connection.execute(_WRITERS, [table.oid])}


def shape_of(connection: Connection, table: SourceTable) -> str:
    """Return a table's file, which a TRUNCATE replaces; for partitioned tables see `partitions.py`."""
    row = connection.execute(_SHAPE, [table.oid]).fetchone()
    return str(row[0]) if row else ""


def write_ends(
    kafka: KafkaCluster,
    prefix: str,
    table: SourceTable,
    below_lsn: Lsn,
    resync: str,
    *,
    partitions: int,
) -> dict[str, int]:
    """Write the end of a resync into each partition of the table's topic.

    The topic is created if it does not exist: the table is empty, but silver may have rows, as in a restored lake.
    Writing the end twice is harmless.

    Args:
        partitions: those of a new topic of a table with a key; one without has one.
    Returns: partition (as text) → offset.
    Raises: kafka.errors.KafkaError.
    """
    topic = topic_of(prefix, table.schema, table.name)
    with admin(kafka) as client:
        if topic not in (known := partitions_of(client, {topic})):
            create_topics(client, [topic], partitions=partitions if table.has_key else 1)
            known = partitions_of(client, {topic})
        count = known[topic]
    value = resync_end(
        table.schema,
        table.name,
        ResyncEnd(below_lsn, count),
        resync=resync,
        at_ms=int(time.time() * 1000),
        prefix=prefix,
    )
    producer = KafkaProducer(
        **kafka.options,
        client_id="headwater-capture",
        acks="all",
        enable_idempotence=True,
        max_block_ms=_WITHIN_S * 1000,
    )
    try:
        sent = [producer.send(topic, value=value, partition=number) for number in range(count)]
        return {
            str(number): int(future.get(timeout=_WITHIN_S).offset)
            for number, future in enumerate(sent)
        }
    finally:
        producer.close(timeout=_WITHIN_S)

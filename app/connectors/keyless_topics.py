"""Makes the topics of keyless tables, with one partition each, before Debezium makes them with more.

Equal rows have no key that keeps them in one partition. If there were several partitions, the
removal of a copy could be read before the copy itself.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from app.source.source_tables import SourceTable
from spark_streaming.contract.names import topic_of
from spark_streaming.storage.kafka_cluster import KafkaCluster

_TIMEOUT_MS = 30_000
# As connector.json sets it for the other topics.
_CONFIG = {"compression.type": "producer"}


def ensure_single(
    kafka: KafkaCluster, prefix: str, tables: Iterable[SourceTable]
) -> dict[SourceTable, int]:
    """Create the missing topics of tables without a key, with one partition each.

    Args:
        prefix: the connector's topic prefix.
        tables: any tables; those with a key are ignored.
    Returns: tables whose topic exists already with several partitions, and their number.
    Raises: kafka.errors.KafkaError if the broker does not answer or refuses.
    """
    keyless = {topic_of(prefix, t.schema, t.name): t for t in tables if not t.has_key}
    if not keyless:
        return {}
    with admin(kafka) as client:
        found = partitions_of(client, keyless)
        absent = sorted(keyless.keys() - found.keys())
        if absent:
            create_topics(client, absent, partitions=1)
            found = partitions_of(client, keyless)
    return {keyless[topic]: count for topic, count in found.items() if count > 1}


def too_many(table: SourceTable, partitions: int) -> str:
    """Describe the problem of a keyless table whose topic has several partitions."""
    return (
        f"{table} has no key, but its topic has {partitions} partitions from a time when it had one: "
        "the number of equal rows can be wrong in the lake\n  hint: give it a key again, or start "
        "with an empty lake (down --wipe, then up)"
    )


@contextmanager
def admin(kafka: KafkaCluster) -> Iterator[KafkaAdminClient]:
    """Open an admin client of the broker for the block."""
    client = KafkaAdminClient(
        **kafka.options,
        client_id="headwater-capture",
        request_timeout_ms=_TIMEOUT_MS,
    )
    try:
        yield client
    finally:
        client.close()


def create_topics(client: KafkaAdminClient, topics: Iterable[str], *, partitions: int) -> None:
    """Create topics of tables as the connector does; none that it has created first."""
    wanted = {topic: {"num_partitions": partitions, "configs": _CONFIG} for topic in topics}
    with suppress(TopicAlreadyExistsError):
        client.create_topics(wanted, timeout_ms=_TIMEOUT_MS, wait_for_metadata=True)


def partitions_of(client: KafkaAdminClient, topics: Container[str]) -> dict[str, int]:
    """Return the number of partitions of each of `topics` that exists."""
    return {
        entry["name"]: len(entry["partitions"])
        for entry in client.describe_topics()
        if entry["name"] in topics
    }

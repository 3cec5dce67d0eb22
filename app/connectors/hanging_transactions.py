"""Finds and aborts hanging transactions in Kafka.

A transaction hangs if a partition has it open although its coordinator has ended it, or never had
it. Consumers of committed records stop before it, and Connect does not start. Kafka 4.3 leaves such
transactions behind if a broker is killed and takes long to start: for a transaction that timed out
meanwhile, the coordinator notes the abort before the partitions have leaders, and no marker is
written. Kafka's own tool for this is `kafka-transactions.sh find-hanging` and `abort`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec

from app.connectors.keyless_topics import admin
from spark_streaming.storage.kafka_cluster import KafkaCluster

CHECK_EVERY_S = 10.0
# Normally a coordinator writes the marker milliseconds after it notes the transaction's end.
HANGS_S = 15.0
# The worker's own topics, as in worker.properties; one of them has the source's offsets.
WORKERS_TOPICS = "headwater-connect-"
# In these states the coordinator itself ends the transaction.
UNDER_WAY = ("Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence")


class Open(NamedTuple):
    """A transaction that a partition has open."""

    partition: TopicPartition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int  # of the previous marker; an older epoch is refused
    start: int  # offset of its first record

    def __str__(self) -> str:
        return f"{self.partition.topic} partition {self.partition.partition} offset {self.start}"


class Hanging:
    """Finds the hanging transactions in the topics of one capture, and aborts them."""

    def __init__(
        self, kafka: KafkaCluster, prefix: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._prefixes = (f"{prefix}.", WORKERS_TOPICS)
        self._clock = clock
        self._checked_at = -CHECK_EVERY_S
        self._since: dict[Open, float] = {}

    def abort(self) -> list[Open]:
        """Abort transactions that have hung for HANGS_S and return them; check every CHECK_EVERY_S.

        The coordinator's decision is not known here. The source's offsets are in the same
        transactions as its events. If both are aborted, both are read from the log again, and if
        the slot is past them, the capture stops with an error (`continuity.py`).
        Raises: kafka.errors.KafkaError if the broker does not answer or refuses.
        """
        now = self._clock()
        if now - self._checked_at < CHECK_EVERY_S:
            return []
        self._checked_at = now
        with admin(self._kafka) as client:
            found = hanging(client, self._prefixes)
            self._since = {one: self._since.get(one, now) for one in found}
            ended = [one for one, since in self._since.items() if now - since >= HANGS_S]
            for one in ended:
                client.abort_transaction(
                    AbortTransactionSpec(
                        one.partition, one.producer_id, one.producer_epoch, one.coordinator_epoch
                    )
                )
                del self._since[one]
        return ended


def hanging(client: KafkaAdminClient, prefixes: tuple[str, ...]) -> set[Open]:
    """Find transactions that are open in these topics' partitions but in progress at no coordinator.

    A transaction that ends between the two requests may be among them; the next check omits it.
    """
    partitions = [
        TopicPartition(topic["name"], partition["partition_index"])
        for topic in client.describe_topics()
        if topic["name"].startswith(prefixes)
        for partition in topic["partitions"]
    ]
    found = {
        Open(
            partition,
            one.producer_id,
            one.producer_epoch,
            max(0, one.coordinator_epoch),
            one.current_transaction_start_offset,
        )
        for partition, state in client.describe_producers(partitions).items()
        for one in state.active_producers
        if one.current_transaction_start_offset >= 0
    }
    if not found:
        return found
    known = _under_way(client, {one.producer_id for one in found})
    return {one for one in found if (one.producer_id, one.partition) not in known}


def _under_way(
    client: KafkaAdminClient, producers: Iterable[int]
) -> set[tuple[int, TopicPartition]]:
    """Return (producer, partition) of each transaction that is in progress at a coordinator."""
    listed = client.list_transactions(producer_id_filters=list(producers))
    names = [one.transactional_id for of in listed.values() for one in of if one.state in UNDER_WAY]
    if not names:
        return set()
    return {
        (transaction.producer_id, partition)
        for transaction in client.describe_transactions(names).values()
        if transaction.state in UNDER_WAY
        for partition in transaction.topic_partitions
    }

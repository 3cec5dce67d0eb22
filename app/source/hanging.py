"""Transactions that hang: whoever reads committed records stops before them, and Connect does not start.

A partition has one open that its coordinator has ended, or never had. Kafka 4.3 leaves such behind
where a broker is killed and takes long to start: of a transaction that timed out meanwhile the
coordinator notes the abort while partitions have no leader yet, and the marker is written nowhere.
Kafka's own tool for it is `kafka-transactions.sh find-hanging` and `abort`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec

from app.source.topics import admin

LOOK_S = 10.0
# From an end that the coordinator noted to its marker it takes milliseconds.
HANGS_S = 15.0
# The worker's own topics, by worker.properties: the source's positions are among them.
WORKERS_TOPICS = "headwater-connect-"
# States in which the coordinator itself will end it.
UNDER_WAY = ("Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence")


class Open(NamedTuple):
    """A transaction that a partition has open."""

    partition: TopicPartition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int  # of the marker before it; an older one is refused
    start: int  # offset of its first record

    def __str__(self) -> str:
        return f"{self.partition.topic} partition {self.partition.partition} offset {self.start}"


class Hanging:
    """Finds the transactions that hang in the topics of one capture, and aborts them."""

    def __init__(
        self, kafka: str, prefix: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._prefixes = (f"{prefix}.", WORKERS_TOPICS)
        self._clock = clock
        self._looked_at = -LOOK_S
        self._since: dict[Open, float] = {}

    def abort(self) -> list[Open]:
        """Abort those that hung for HANGS_S, at looks that are LOOK_S apart; returns them.

        What its coordinator had decided is not known here. The source's positions are in the same
        transactions as its events: where both hang, both are read from the log again, and a slot that is
        ahead of them stops the capture with words (`continuity.py`).
        Raises: kafka.errors.KafkaError where the broker does not answer or refuses.
        """
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return []
        self._looked_at = now
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
    """The transactions that partitions of these topics have open, and no coordinator under way.

    One that ended between the two questions may be among them: it is gone at the next look.
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
    """(producer, partition) of each transaction that a coordinator has under way."""
    listed = client.list_transactions(producer_id_filters=list(producers))
    names = [one.transactional_id for of in listed.values() for one in of if one.state in UNDER_WAY]
    if not names:
        return set()
    return {
        (told.producer_id, partition)
        for told in client.describe_transactions(names).values()
        if told.state in UNDER_WAY
        for partition in told.topic_partitions
    }

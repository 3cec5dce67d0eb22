"""Finds hanging transactions in Kafka, and ends them as their coordinator had decided.

A transaction hangs if a partition has it open and its coordinator has ended it, or never had it.
Consumers of committed records stop before it, and Connect does not start. Kafka 4.0 to 4.3 leave such transactions
behind if a broker is killed or its disk is full: until a broker that starts is
registered its partitions have no leaders, and the coordinator treats a partition without a leader as deleted, so it
records the end and writes no marker there (KAFKA-20734). What the same producer writes
there next becomes part of the open transaction, so the connector waits for its end before it sends
(`OpenTransactions.java`). Kafka's own tool is `kafka-transactions.sh find-hanging` and `abort`.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec
from kafka.errors import AuthorizationError, KafkaTimeoutError

from app.connectors.keyless_topics import admin
from spark_streaming.storage.connections import KAFKA_LIMITS
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer

CHECK_EVERY_S = 10.0
# Normally a coordinator writes the marker milliseconds after it notes the transaction's end.
HANGS_S = 15.0
# The coordinators' log, of which the newest records of each partition are read.
STATES_TOPIC = "__transaction_state"
STATES_MAX = 10_000
READ_STATES_S = 15.0
# A record of that log: version, producer, its epoch, time-out, state. Of a key: version.
_STATE = struct.Struct(">hqhib")
_ONGOING, _PREPARE_COMMIT, _PREPARE_ABORT = 1, 2, 3
# The worker's own topics, as in worker.properties; the source's offsets are in one of them.
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


class Ended(NamedTuple):
    """A hanging transaction and the end that was written."""

    one: Open
    committed: bool

    def __str__(self) -> str:
        return f"{self.one}: {'committed' if self.committed else 'aborted'}"


class State(NamedTuple):
    """A record of the coordinators' log; `status`: 1 ongoing, 2 commit noted, 3 abort noted, others."""

    producer_id: int
    producer_epoch: int
    status: int


class Hanging:
    """Finds the hanging transactions in the topics of one capture, and ends them."""

    def __init__(
        self, kafka: KafkaCluster, prefix: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._prefixes = (f"{prefix}.", WORKERS_TOPICS)
        self._clock = clock
        self._checked_at = -CHECK_EVERY_S
        self._since: dict[Open, float] = {}

    def end(self) -> list[Ended]:
        """End those that have hung for HANGS_S; check at most every CHECK_EVERY_S. Return them.

        Each is ended as its coordinator had noted. If that cannot be read, or was never noted, it is
        aborted: the source's offsets are in the same transactions as its events, so if both are
        aborted, both are read from the log again, and a slot that is past them stops the capture with an
        error (`continuity.py`).
        Raises: kafka.errors.KafkaError if the broker does not answer or refuses.
        """
        now = self._clock()
        if now - self._checked_at < CHECK_EVERY_S:
            return []
        self._checked_at = now
        with admin(self._kafka) as client:
            found = hanging(client, self._prefixes)
        self._since = {one: self._since.get(one, now) for one in found}
        due = sorted(one for one, since in self._since.items() if now - since >= HANGS_S)
        if not due:
            return []
        states = list(_states(self._kafka))
        ended = []
        with closing(_Markers(**self._kafka.options)) as client:
            for one in due:
                ended.append(Ended(one, is_committed(one, states)))
                client.end(*ended[-1])
                del self._since[one]
        return ended


class _Markers(KafkaAdminClient):
    """Writes COMMIT markers too: kafka-python, as Kafka's own tool, has only ABORT."""

    def end(self, one: Open, committed: bool) -> None:
        """Write the marker that ends a transaction in a partition."""
        self._committed = committed
        self.abort_transaction(
            AbortTransactionSpec(
                one.partition, one.producer_id, one.producer_epoch, one.coordinator_epoch
            )
        )

    def _abort_transaction_request(self, spec: AbortTransactionSpec) -> Any:
        request = KafkaAdminClient._abort_transaction_request(spec)
        for marker in request.markers:
            marker.transaction_result = self._committed
        return request


def is_committed(one: Open, states: Iterable[State]) -> bool:
    """Whether a coordinator had noted the commit of a transaction; False if it is unknown.

    Args:
        states: the coordinators' log, in its order. The noted end of a transaction follows its last
            entry as ongoing, which has the epoch of its records.
    """
    is_next, committed = False, False
    for state in states:
        if state.producer_id != one.producer_id:
            continue
        if state.status == _ONGOING:
            is_next = state.producer_epoch == one.producer_epoch
            committed = committed and not is_next
        elif is_next and state.status in (_PREPARE_COMMIT, _PREPARE_ABORT):
            is_next, committed = False, state.status == _PREPARE_COMMIT
    return committed


def _states(kafka: KafkaCluster) -> Iterator[State]:
    """Read the newest records of the coordinators' log; none if reading is not allowed.

    Raises: kafka.errors.KafkaError if the broker does not answer.
    """
    with closing(
        BoundedConsumer(
            **kafka.options,
            group_id=None,
            enable_auto_commit=False,
            metrics_enabled=False,
            **KAFKA_LIMITS,
        )
    ) as consumer:
        with suppress(AuthorizationError):
            yield from _newest_states(consumer)


def _newest_states(consumer: Any) -> Iterator[State]:
    numbers = consumer.partitions_for_topic(STATES_TOPIC) or ()
    places = [TopicPartition(STATES_TOPIC, number) for number in sorted(numbers)]
    if not places:
        return
    begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    consumer.assign(places)
    for place in places:
        consumer.seek(place, max(begins[place], ends[place] - STATES_MAX))
    limit = time.monotonic() + READ_STATES_S
    while any(consumer.position(place) < ends[place] for place in places):
        if time.monotonic() > limit:
            raise KafkaTimeoutError(f"{STATES_TOPIC} was not read within {READ_STATES_S:.0f} s")
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                if record.value and len(record.value) >= _STATE.size:
                    _, producer_id, epoch, _, status = _STATE.unpack_from(record.value)
                    yield State(producer_id, epoch, status)


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

"""Sends stream events to Kafka: topics with limits, a producer that waits for acknowledgements."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError

from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.streams.stream_contract import Stream

_ADMIN_TIMEOUT_MS = 30_000
# If there is no acknowledgement by then, the send fails, and the sender repeats it with the same
# keys.
ACK_TIMEOUT_S = 10.0
_CLOSE_S = 5.0
_TOPIC_CONFIG = {
    # The broker sets the time, so that no sender decides when something was received.
    "message.timestamp.type": "LogAppendTime",
    "compression.type": "producer",
    # Bronze keeps all events; Kafka keeps enough for an outage of its readers.
    "retention.ms": str(3 * 24 * 3_600_000),
    "retention.bytes": str(2 << 30),
    "segment.bytes": str(64 << 20),
}
_BATCH_BYTES = 256 << 10
_LINGER_MS = 5
_REQUEST_BYTES_MAX = 8 << 20

Record = tuple[bytes, bytes]


def ensure_topics(
    kafka: KafkaCluster, prefix: str, streams: Iterable[Stream], partitions: int
) -> list[str]:
    """Make the topics of streams that have none. Returns: the topics that were made.

    Raises: kafka.errors.KafkaError if the broker does not answer or refuses.
    """
    admin = KafkaAdminClient(
        **kafka.options,
        client_id="headwater-streams",
        request_timeout_ms=_ADMIN_TIMEOUT_MS,
    )
    try:
        there = {entry["name"] for entry in admin.describe_topics()}
        absent = sorted({stream.topic(prefix) for stream in streams} - there)
        wanted = {
            topic: {"num_partitions": partitions, "configs": _TOPIC_CONFIG} for topic in absent
        }
        if wanted:
            with contextlib.suppress(TopicAlreadyExistsError):  # another service made it first
                admin.create_topics(wanted, timeout_ms=_ADMIN_TIMEOUT_MS, wait_for_metadata=True)
        return absent
    finally:
        admin.close()


class StreamProducer:
    """One Kafka producer for all streams, shared by threads and replaced after a failure."""

    def __init__(self, kafka: KafkaCluster) -> None:
        self._kafka = kafka
        self._producer: Any = None
        self._lock = threading.Lock()

    def send(self, topic: str, records: Sequence[Record]) -> list[str | None]:
        """Put records on a topic and wait until all in-sync replicas have them.

        Returns: for each record None, or the error. A failed record may be in the topic nevertheless: send it again
        with the same key.
        """
        deadline = time.monotonic() + ACK_TIMEOUT_S
        producer = None
        try:
            producer = self._open()
            futures = [producer.send(topic, key=key, value=value) for key, value in records]
        except (KafkaError, AssertionError) as error:
            self._replace(producer)
            return [f"{type(error).__name__}: {error}"] * len(records)
        failures: list[str | None] = []
        for future in futures:
            try:
                future.get(timeout=max(0.0, deadline - time.monotonic()))
                failures.append(None)
            except KafkaError as error:
                failures.append(f"{type(error).__name__}: {error}")
        if any(failures):
            self._replace(producer)
        return failures

    def close(self) -> None:
        """Close the connection after a short wait for pending records; a later send opens another."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            _end(producer, _CLOSE_S)

    def _open(self) -> Any:
        with self._lock:
            if self._producer is None:
                self._producer = KafkaProducer(
                    **self._kafka.options,
                    client_id="headwater-streams",
                    acks="all",
                    # A retry inside the producer must make no second record: silver would leave it
                    # out, but bronze would keep it.
                    enable_idempotence=True,
                    compression_type="lz4",
                    linger_ms=_LINGER_MS,
                    batch_size=_BATCH_BYTES,
                    max_request_size=_REQUEST_BYTES_MAX,
                    max_block_ms=5_000,
                    request_timeout_ms=5_000,
                    delivery_timeout_ms=int(ACK_TIMEOUT_S * 1000),
                    bootstrap_timeout_ms=5_000,
                    # A stream without a topic is an error, not a new topic.
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
            return self._producer

    def _replace(self, failed: Any) -> None:
        """Drop a failed producer, which ends after its last record; the next send opens another."""
        with self._lock:
            if failed is None or failed is not self._producer:
                return  # another thread has replaced it already
            self._producer = None
        # Other threads may wait for their records, at most as long as one record may take.
        threading.Thread(target=_end, args=(failed, ACK_TIMEOUT_S + _CLOSE_S), daemon=True).start()


def _end(producer: Any, timeout_s: float) -> None:
    # `close` raises if records are still pending then, and its threads go on; by then the broker
    # has confirmed the records or their time is up.
    with contextlib.suppress(KafkaError):
        producer.close(timeout=timeout_s)

"""Compares all transactions of bronze with their counts, once: for `verify --bronze`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from app.counts.barrier import PendingBarrier
from app.counts.count_reader import Barrier, Counting, Progress
from app.counts.tally import Miscount
from app.errors import HeadwaterError
from spark_streaming.reading.bronze import Bronze
from spark_streaming.storage.kafka_cluster import KafkaCluster

# For a quiet topic, the sink commits its stored offsets within some ten seconds.
WITHIN_S = 60.0
POLL_S = 1.0


def count_all(
    kafka: KafkaCluster,
    consumer: Any,
    bronze: Bronze,
    prefix: str,
    topics: Collection[str] | None,
    tick: Callable[[], None] = lambda: None,
) -> list[Miscount]:
    """Count every transaction that Kafka had ended when this was called, in bounded memory.

    Args:
        consumer: a client of kafka-python.
        topics: the topics of the tables to count; None counts all.
        tick: called for each object read.
    Raises: HeadwaterError if bronze does not have these transactions within WITHIN_S.
    """
    with closing(KafkaAdminClient(**kafka.options)) as admin:
        barrier = _barrier(consumer, admin, prefix)
    if barrier is None:
        return []
    found: list[Miscount] = []
    for wrong in Counting(bronze, prefix, Progress(), only=topics).run(barrier):
        found += wrong or []
        tick()
    return found


def _barrier(consumer: Any, admin: Any, prefix: str) -> Barrier | None:
    waiting = PendingBarrier(prefix)
    limit = time.monotonic() + WITHIN_S
    try:
        if not waiting.set(consumer, admin):
            return None
        while (barrier := waiting.reached(admin)) is None:
            if time.monotonic() > limit:
                raise HeadwaterError(
                    "transactions cannot be counted: bronze is behind Kafka",
                    detail=f"within {WITHIN_S:.0f} s the sink did not store the records that Kafka had"
                    " at the beginning",
                    hint="is the connector `bronze` running? `./headwater status connect`",
                )
            time.sleep(POLL_S)
    except KafkaError as error:
        raise HeadwaterError(
            "transactions cannot be counted: Kafka does not answer", detail=str(error)
        ) from error
    return barrier

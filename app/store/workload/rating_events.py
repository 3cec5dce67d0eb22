"""Sends ratings to Kafka directly, as events of the stream `rating_events`, without a database."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from random import Random
from threading import Event as Flag
from typing import Any

from kafka.errors import KafkaError

from app.errors import HeadwaterError
from app.store.planted.tastes import TASTES
from app.store.workload.pace import Pace
from spark_streaming.storage.kafka_cluster import KafkaCluster, kafka_of
from spark_streaming.streams.producer import StreamProducer, ensure_topics
from spark_streaming.streams.stream_contract import SHIPPED, read_stream
from spark_streaming.streams.stream_event import Judge, encode

STREAM_FILE = SHIPPED / "streams" / "demo" / "rating_events.toml"
CUSTOMERS, MOVIES = 2_000, 1_000
BATCH_MAX = 500
TICK_S = 0.1
# The run ends if the broker is unreachable for longer.
AWAY_LIMIT_S = 60.0
RETRY_PAUSE_S = 1.0


@dataclass
class RatingsReport:
    """What a run did: events that the broker confirmed, and records that were sent again."""

    events: int = 0
    sent_again: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        achieved = self.events / self.seconds if self.seconds else 0.0
        return {
            "events": self.events,
            "sent_again": self.sent_again,
            "seconds": round(self.seconds, 3),
            "achieved": round(achieved, 1),
        }


def send_ratings(
    seed: int,
    rate: float,
    seconds: float | None,
    stop: Flag,
    clock: Callable[[], float] = time.monotonic,
) -> RatingsReport:
    """Send random ratings at `rate` events a second (0: as fast as it goes).

    Each has its own key, with which it is sent again if the broker has not confirmed it.
    Raises: HeadwaterError if no broker is known or it stays unreachable.
    """
    kafka, prefix, partitions = _place()
    stream = read_stream(STREAM_FILE)
    try:
        ensure_topics(kafka, prefix, [stream], partitions)
    except KafkaError as error:
        raise _away(error) from error
    judge, producer, rng = Judge(stream), StreamProducer(kafka), Random(seed)
    report, pace, started = RatingsReport(), Pace(rate, clock), clock()
    try:
        while not stop.is_set() and (seconds is None or clock() - started < seconds):
            if (wait_s := pace.wait_s()) > 0:
                stop.wait(min(wait_s, TICK_S))
                continue
            count = BATCH_MAX if rate == 0 else max(1, min(BATCH_MAX, int(rate * TICK_S)))
            records = [_record(judge, rng) for _ in range(count)]
            report.sent_again += _send(producer, stream.topic(prefix), records, stop)
            report.events += count
            pace.spend(count)
    finally:
        producer.close()
        report.seconds = clock() - started
    return report


def _record(judge: Judge, rng: Random) -> tuple[bytes, bytes]:
    now = datetime.now(timezone.utc)
    customer_id = rng.randint(1, CUSTOMERS)
    movie_id = TASTES.liked(rng, customer_id, lambda: rng.randint(1, MOVIES))
    data = {
        "customer_id": customer_id,
        "movie_id": movie_id,
        "stars": float(TASTES.stars(rng, customer_id, movie_id)),
        "rated_at": now.isoformat(),
    }
    return encode(judge.check({"key": uuid.uuid4().hex, "data": data}, now), data)


def _send(
    producer: StreamProducer, topic: str, records: list[tuple[bytes, bytes]], stop: Flag
) -> int:
    """Send until all are confirmed; returns how many were sent again."""
    again, limit = 0, time.monotonic() + AWAY_LIMIT_S
    left = records
    while True:
        failures = producer.send(topic, left)
        left = [one for one, failure in zip(left, failures, strict=True) if failure is not None]
        if not left:
            return again
        if time.monotonic() > limit or stop.wait(RETRY_PAUSE_S):
            raise _away(next(failure for failure in failures if failure is not None))
        again += len(left)


def _place() -> tuple[KafkaCluster, str, int]:
    """(Kafka, topic prefix, partitions) of the environment, else of the current home's stack."""
    kafka = kafka_of(os.environ)
    if kafka.addresses:
        prefix = os.environ.get("HEADWATER_TOPIC_PREFIX", "hw")
        return kafka, prefix, int(os.environ.get("HEADWATER_TOPIC_PARTITIONS", "1"))
    from app.environment import settings

    found = settings.load()
    return found.kafka, found.topic_prefix, found.profile.topic_partitions


def _away(error: object) -> HeadwaterError:
    return HeadwaterError(
        "cannot reach Kafka", detail=str(error), hint="see `./headwater status kafka`"
    )

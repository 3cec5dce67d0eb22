"""Kafka's ends, how far bronze and silver have read, and how long unread events wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from app.metrics.board import Board
from app.metrics.silver import SilverState
from app.metrics.source import OWN_SCHEMA
from spark_streaming.naming import parse_topic, silver_table, topic_of

BRONZE_GROUP = "connect-bronze"
TOPICS_AGAIN_S = 30.0
STARTS_AGAIN_S = 60.0
HISTORY_MAX = 360
# Behind the last event of a topic stands its transaction's marker, which bronze steps over only
# when the partition has been quiet for a while: that one offset is nothing unread.
MARKER = 1

Place = tuple[str, int]  # topic, partition
Positions = dict[Place, int]


class Kafka:
    """One consumer and one admin client, without a group; both are made when needed."""

    def __init__(
        self, address: str, prefix: str, heartbeat: str, clock: Callable[[], float]
    ) -> None:
        self._address = address
        self._prefix = prefix
        self._heartbeat_topic = topic_of(prefix, OWN_SCHEMA, heartbeat)
        self._clock = clock
        self._consumer: Any = None
        self._admin: Any = None
        self._places: list[TopicPartition] = []
        self._places_at = float("-inf")
        self._follows = False
        self.heartbeats_read: dict[TopicPartition, int] = {}

    def close(self) -> None:
        for client in (self._consumer, self._admin):
            if client is not None:
                client.close()
        self._consumer = self._admin = None
        self._places_at = float("-inf")
        self._follows = False

    def consumer(self) -> Any:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self._address,
                isolation_level="read_committed",
                enable_auto_commit=False,
                group_id=None,
                fetch_max_wait_ms=10,
                metrics_enabled=False,
                bootstrap_timeout_ms=5_000,
            )
        return self._consumer

    def admin(self) -> Any:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self._address,
                request_timeout_ms=10_000,
                bootstrap_timeout_ms=5_000,
            )
        return self._admin

    def places(self) -> list[TopicPartition]:
        """The partitions of all topics of the stack's prefix; looked up twice a minute."""
        now = self._clock()
        if now - self._places_at > TOPICS_AGAIN_S:
            consumer = self.consumer()
            topics = [t for t in consumer.topics() if parse_topic(t, self._prefix)]
            self._places = [
                TopicPartition(t, p)
                for t in sorted(topics)
                for p in consumer.partitions_for_topic(t) or ()
            ]
            self._places_at = now
        return self._places

    def ends(self) -> Positions:
        """The offset after the last committed event of each partition."""
        try:
            found = self.consumer().end_offsets(self.places())
        except KeyError as error:
            raise LookupError(f"nobody leads a partition yet: {error}") from error
        return {tuple(tp): at for tp, at in found.items()}

    def starts(self) -> Positions:
        """The oldest offset of each partition that Kafka still has."""
        found = self.consumer().beginning_offsets(self.places())
        return {tuple(tp): at for tp, at in found.items()}

    def bronze(self) -> Positions:
        """How far each partition's objects are known to be stored (told every two seconds)."""
        found = self.admin().list_group_offsets(BRONZE_GROUP)[BRONZE_GROUP]
        return {(tp.topic, tp.partition): meta.offset for tp, meta in found.items()}

    def follow_heartbeats(self) -> None:
        """Read the heartbeat topic on, where the last reader stopped; the first begins at its end.

        Raises: LookupError before the connector has made the topic.
        """
        if self._follows:
            return
        topic = self._heartbeat_topic
        consumer = self.consumer()
        partitions = consumer.partitions_for_topic(topic)
        if not partitions:
            raise LookupError(f"Kafka has no topic {topic} yet")
        places = [TopicPartition(topic, number) for number in sorted(partitions)]
        consumer.assign(places)
        for place in places:
            if place in self.heartbeats_read:
                consumer.seek(place, self.heartbeats_read[place])
            else:
                consumer.seek_to_end(place)
                self.heartbeats_read[place] = consumer.position(place)  # asks now
        self._follows = True

    def heartbeats(self) -> Iterator[tuple[Place, Any]]:
        """The heartbeat records since the last call, with their places."""
        for place, records in self.consumer().poll(timeout_ms=20).items():
            for record in records:
                self.heartbeats_read[place] = record.offset + 1
                yield (place.topic, place.partition), record

    def table_of(self, topic: str) -> str | None:
        """The silver table of a topic; None for the pipeline's own."""
        parsed = parse_topic(topic, self._prefix)
        return None if parsed is None or parsed[0] == OWN_SCHEMA else silver_table(*parsed)


class Waiting:
    """When a partition's end was where: tells how long the oldest unread event has been there."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=HISTORY_MAX)

    def end(self, now: float, end: int) -> None:
        """At `now` the partition ended at `end`."""
        if not self._seen or end != self._seen[-1][1]:
            self._seen.append((now, end))

    def seconds(self, now: float, position: int) -> float:
        """How long an event at or after `position` has been readable; 0 where none is."""
        if not self._seen or position >= self._seen[-1][1]:
            return 0.0
        return now - next(at for at, end in self._seen if end > position)


class CarriageCollector:
    """Offsets and seconds behind, by table and hop."""

    name = "carriage"
    period_s = 5.0
    share = 0.004

    def __init__(
        self,
        kafka: Kafka,
        silver: SilverState,
        board: Board,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._silver = silver
        self._board = board
        self._clock = clock
        self._waiting: dict[Place, Waiting] = {}
        self._starts: Positions = {}
        self._starts_at = float("-inf")

    def collect(self) -> None:
        trouble = self._refresh()
        # Positions first: read after them, an end is never behind a position.
        bronze = self._kafka.bronze()
        ends = self._kafka.ends()
        now = self._clock()
        if now - self._starts_at > STARTS_AGAIN_S:
            self._starts, self._starts_at = self._kafka.starts(), now
        for place, end in ends.items():
            self._waiting.setdefault(place, Waiting()).end(now, end)
        self._export(ends, {"bronze": bronze, "silver": self._silver.table_positions()}, now)
        if trouble is not None:
            raise trouble

    def _refresh(self) -> Exception | None:
        """Without the store silver's last known positions count: what waits grows older."""
        try:
            self._silver.refresh()
        except Exception as error:  # noqa: BLE001 - raised when the rest is exported
            return error
        return None

    def _export(self, ends: Positions, hops: Mapping[str, Positions], now: float) -> None:
        total: dict[tuple[str, ...], float] = {}
        behind: dict[tuple[str, ...], float] = {}
        seconds: dict[tuple[str, ...], float] = {}
        missing: dict[tuple[str, ...], float] = {}
        for place, end in ends.items():
            table = self._kafka.table_of(place[0])
            if table is None:
                continue
            total[(table,)] = total.get((table,), 0) + end
            for hop, positions in hops.items():
                start = self._starts.get(place, 0)
                position = positions.get(place, start)
                slack = MARKER if hop == "bronze" else 0
                unread = max(0, end - position - slack)
                labels = (table, hop)
                behind[labels] = behind.get(labels, 0) + unread
                waits = self._waiting[place].seconds(now, position + slack)
                seconds[labels] = max(seconds.get(labels, 0), waits)
            # What retention removed before bronze had stored it; nobody can fetch it again.
            lost = max(0, self._starts.get(place, 0) - hops["bronze"].get(place, 0) - MARKER)
            known = place in hops["bronze"]
            missing[(table,)] = missing.get((table,), 0) + (lost if known else 0)
        self._board.replace("headwater_table_kafka_offsets", total)
        self._board.replace("headwater_table_offsets_behind", behind)
        self._board.replace("headwater_table_seconds_behind", seconds)
        self._board.replace("headwater_bronze_missing_offsets", missing)
        if self._silver.batch_at is not None:
            self._board.set(
                "headwater_silver_batch_timestamp_seconds", self._silver.batch_at.timestamp()
            )
        self._lsn(behind, seconds)

    def _lsn(
        self, behind: Mapping[tuple[str, ...], float], seconds: Mapping[tuple[str, ...], float]
    ) -> None:
        position = self._board.get("headwater_source_wal_position_bytes").get(())
        complete = self._silver.complete_lsn
        if position is None or complete is None:
            return
        gap = max(0.0, position - complete)
        self._board.set("headwater_silver_lsn_behind_bytes", gap)
        # A table that is not stopped is as far as all of silver, which heartbeats move on.
        self._board.replace(
            "headwater_table_lsn_behind_bytes",
            {
                (table,): max(0.0, position - self._silver.complete_lsn_of(table, complete))
                for (table, hop) in behind
                if hop == "silver"
            },
        )
        target_s = self._silver.target_s
        self._board.replace(
            "headwater_table_freshness_target_seconds",
            {(table,): target_s(table) for (table, hop) in seconds if hop == "silver"},
        )

    def reset(self) -> None:
        self._kafka.close()

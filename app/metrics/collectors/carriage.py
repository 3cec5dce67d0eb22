"""Ends of Kafka's partitions, how far bronze and silver have read, and how long unread events wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from deltalake.exceptions import DeltaError
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from app.metrics.board import Board
from app.metrics.collectors.silver_ledger import SilverState
from app.metrics.collectors.source_wal import OWN_SCHEMA
from spark_streaming.contract.names import parse_topic, silver_table, topic_of
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer
from spark_streaming.tables.silver_names import SilverNames

BRONZE_GROUP = "connect-bronze"
TOPICS_AGAIN_S = 30.0
STARTS_AGAIN_S = 60.0
HISTORY_MAX = 360
# A transaction's marker follows the last event of a topic. Bronze skips the marker only after the
# partition has been quiet for a while, so this one offset does not count as an unread event.
MARKER = 1

Place = tuple[str, int]  # topic, partition
Positions = dict[Place, int]


class Kafka:
    """One consumer and one admin client, without a group; both are opened at their first use."""

    def __init__(
        self,
        cluster: KafkaCluster,
        prefix: str,
        heartbeat: str,
        clock: Callable[[], float],
        names: SilverNames,
    ) -> None:
        self._names = names
        self._cluster = cluster
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
            self._consumer = BoundedConsumer(
                **self._cluster.options,
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
                **self._cluster.options,
                request_timeout_ms=10_000,
                bootstrap_timeout_ms=5_000,
            )
        return self._admin

    def places(self) -> list[TopicPartition]:
        """Return the partitions of all topics with the stack's prefix; refreshed twice a minute."""
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
        """Return the offset after the last committed event of each partition."""
        try:
            found = self.consumer().end_offsets(self.places())
        except KeyError as error:
            raise LookupError(f"a partition has no leader yet: {error}") from error
        return {tuple(tp): at for tp, at in found.items()}

    def starts(self) -> Positions:
        """Return the oldest offset of each partition that Kafka still has."""
        found = self.consumer().beginning_offsets(self.places())
        return {tuple(tp): at for tp, at in found.items()}

    def bronze(self) -> Positions:
        """Return the offset up to which bronze stores each partition (committed every two seconds)."""
        found = self.admin().list_group_offsets(BRONZE_GROUP)[BRONZE_GROUP]
        return {(tp.topic, tp.partition): meta.offset for tp, meta in found.items()}

    def follow_heartbeats(self) -> None:
        """Read the heartbeat topic from the last reader's position; the first reader begins at the topic's end.

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
        """Yield the heartbeat records since the last call, with their partitions."""
        for place, records in self.consumer().poll(timeout_ms=20).items():
            for record in records:
                self.heartbeats_read[place] = record.offset + 1
                yield (place.topic, place.partition), record

    def table_of(self, topic: str) -> str | None:
        """Return the silver table of a topic; None for the pipeline's own topics."""
        parsed = parse_topic(topic, self._prefix)
        if parsed is None or parsed[0] == OWN_SCHEMA:
            return None
        try:
            return self._names.of_topic(topic, self._prefix)
        except (OSError, DeltaError):  # without the object store, by the topic's name
            return silver_table(*parsed)


class Note(NamedTuple):
    """A partition's end at a time. All events up to `lsn` are before it; None if the LSN is unknown."""

    at: float
    end: int
    lsn: float | None


class Waiting:
    """Records the ends of a partition with their times.

    So it knows how long the oldest unread event has been waiting, and up to which LSN a reader has
    all events of the partition.
    """

    def __init__(self) -> None:
        self._seen: deque[Note] = deque(maxlen=HISTORY_MAX)
        self._complete: float | None = None
        self._reader = 0

    def end(self, now: float, end: int, lsn: float | None = None) -> None:
        """Note that at `now` the partition ended at `end` and had all events up to `lsn`."""
        if not self._seen or end != self._seen[-1].end:
            self._seen.append(Note(now, end, lsn))
        elif lsn is not None:
            self._seen[-1] = self._seen[-1]._replace(lsn=lsn)

    def seconds(self, now: float, position: int) -> float:
        """Return for how long an event at or after `position` has been readable; 0 without such an event."""
        if not self._seen or position >= self._seen[-1].end:
            return 0.0
        return now - next(note.at for note in self._seen if note.end > position)

    def complete(self, position: int) -> float | None:
        """Return the LSN up to which a reader at `position` has all events; None if unknown.

        Use one object for each reader: if the records do not reach back far enough, its previous answer is used.
        """
        if position < self._reader:
            self._complete = None  # the reader went back, or the topic was created again
        self._reader = position
        for note in reversed(self._seen):
            if note.end <= position:
                if note.lsn is not None:
                    self._complete = max(note.lsn, self._complete or 0.0)
                break
        return self._complete


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
        failure = self._refresh()
        # Read the positions before the ends, so that no end is behind a position.
        bronze = self._kafka.bronze()
        ends = self._kafka.ends()
        now = self._clock()
        if now - self._starts_at > STARTS_AGAIN_S:
            self._starts, self._starts_at = self._kafka.starts(), now
        # This LSN was read before the ends, so all events up to it are before them.
        in_kafka = self._in_kafka()
        for place, end in ends.items():
            self._waiting.setdefault(place, Waiting()).end(now, end, in_kafka)
        self._export(ends, {"bronze": bronze, "silver": self._silver.table_positions()}, now)
        if failure is not None:
            raise failure

    def _refresh(self) -> Exception | None:
        """Refresh silver's positions; without the object store keep the last ones, so that the measured wait
        increases."""
        try:
            self._silver.refresh()
        except Exception as error:  # noqa: BLE001 - raised after the rest is exported
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
            # Events that Kafka's retention removed before bronze had stored them; they are lost.
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
        target_s = self._silver.target_s
        tables = [table for (table, hop) in seconds if hop == "silver"]
        targets = {(table,): target_s(table) for table in tables}
        self._board.replace("headwater_table_freshness_target_seconds", targets)
        self._lsn(tables, hops["bronze"], ends)

    def _in_kafka(self) -> float | None:
        """Return the LSN up to which Kafka has all events: confirmed by the slot, or merged by silver."""
        position = self._board.get("headwater_source_wal_position_bytes").get(())
        unconfirmed = self._board.get("headwater_slot_unconfirmed_bytes").get(())
        known = [] if self._silver.complete_lsn is None else [float(self._silver.complete_lsn)]
        if position is not None and unconfirmed is not None:
            known.append(position - unconfirmed)
        return max(known, default=None)

    def _lsn(self, tables: list[str], bronze: Positions, ends: Positions) -> None:
        position = self._board.get("headwater_source_wal_position_bytes").get(())
        if position is None:
            return
        stored: dict[str | None, float | None] = {}
        for place in ends:
            table = self._kafka.table_of(place[0])
            read_to = bronze.get(place, self._starts.get(place, 0)) + MARKER
            found = self._waiting[place].complete(read_to)
            known = stored.get(table, found)
            stored[table] = None if found is None or known is None else min(found, known)
        whole = list(stored.values())
        silver = self._silver.complete_lsn
        complete: dict[str, float | None] = {
            "kafka": self._in_kafka(),
            "bronze": min((lsn for lsn in whole if lsn is not None), default=None),
            "silver": None if silver is None else float(silver),
        }
        if None in whole:
            complete["bronze"] = None
        each = {(table, "bronze"): stored.get(table) for table in tables}
        if silver is not None:
            # A table that is not stopped is complete up to silver's LSN, which heartbeats advance.
            each |= {(t, "silver"): self._silver.complete_lsn_of(t, silver) for t in tables}
        self._board.replace(
            "headwater_lsn_behind_bytes",
            {(hop,): max(0.0, position - lsn) for hop, lsn in complete.items() if lsn is not None},
        )
        self._board.replace(
            "headwater_table_lsn_behind_bytes",
            {key: max(0.0, position - lsn) for key, lsn in each.items() if lsn is not None},
        )

    def reset(self) -> None:
        self._kafka.close()

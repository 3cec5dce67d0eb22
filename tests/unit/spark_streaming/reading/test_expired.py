"""A topic with lost events stops only its own table, and events too large for memory stop none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from spark_streaming.batch.backlog import Backlog
from spark_streaming.job_settings import SilverSettings
from spark_streaming.reading.expired_events import TooManyBytesError
from spark_streaming.reading.kafka_source import EventReader, ExpiredError
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.tables.engines.choice import Engines, without_spark
from tests.spark.test_batch import Job, Source
from tests.support.disk_lake import DiskLake

BIG = 1_000


class Settings:
    small_batch_offsets_max = 1_000
    small_batch_mb_max = 64


class Kafka:
    """Events by topic; those of `expired` are lost, and a read of more than `bytes_max` is refused."""

    def __init__(self) -> None:
        self.log: dict[str, list[Any]] = {}
        self.expired: set[str] = set()
        self.largest = 0

    def add(self, event: Any) -> None:
        self.log.setdefault(event.topic, []).append(event)

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[Any]]:
        if lacking := self.expired & set(span.sizes()):
            raise ExpiredError(f"Kafka has dropped events of {', '.join(lacking)}", lacking)
        found = {}
        for topic in span.sizes():
            start, end = span.start.get(topic, {}).get(0, 0), span.end[topic][0]
            found[topic] = [e for e in self.log[topic] if start <= e.offset < end]
        size = sum(len(event.value) for events in found.values() for event in events)
        if bytes_max is not None and size > bytes_max:
            raise TooManyBytesError(f"more than {bytes_max} bytes")
        self.largest = max(self.largest, size)
        return found


class World:
    """A job with a backlog of tables `one` and `two`, without Spark."""

    def __init__(self, folder: Path) -> None:
        self.kafka, self.source = Kafka(), Source(DiskLake(folder))
        self.ends: dict[str, dict[int, int]] = {}
        self.batch = -1
        self.restart()

    def restart(self) -> None:
        self.job = Job(self.source.lake, self.source.query_id, read=self.kafka.read)
        self.backlog = Backlog(
            cast(SilverSettings, Settings()),
            self.job.rounds,
            self.job.stopped.is_stopped,
            cast(EventReader, self.kafka),
            Engines(without_spark()),
            cast(Any, None),
        )

    def add(self, table: str, key: int, pad: int = 0) -> None:
        event = self.source.event(table, "c", 100 + key, key, key)
        self.kafka.add(event._replace(value=(event.value or b"") + b" " * pad))

    def topic(self, table: str) -> str:
        return f"hw.{self.source.schema}.{table}"

    def run(self) -> dict[str, str]:
        """Run the next batch. Returns: the states of its tables."""
        self.batch += 1
        start = {topic: self.ends.get(topic, {0: 0}) for topic in self.kafka.log}
        self.ends = {t: {0: events[-1].offset + 1} for t, events in self.kafka.log.items()}
        span = BatchSpan(start, self.ends)
        events, more = self.backlog.split(self.batch, span)
        rows = self.job.runner.run(self.batch, events, span, started=time.monotonic(), more=more)
        return {r.table_name.rpartition("__")[2]: r.state for r in rows if r.table_name}

    def keys(self, table: str) -> list[int]:
        return sorted(key for key, _ in self.source.rows(table))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("spark_streaming.ops.ledger.LEDGER", "ops/ledger")
    monkeypatch.setattr("spark_streaming.ops.stopped.BACKOFF_S_MIN", 0.0)
    return World(tmp_path)


def test_a_topic_whose_events_are_nowhere_stops_its_table_and_no_other(world: World) -> None:
    world.add("one", 1)
    world.add("two", 1)
    world.kafka.expired = {world.topic("one")}
    assert world.run() == {"one": "stopped", "two": "running"}
    assert any("Kafka has dropped events" in (row["reason"] or "") for row in world.source.ledger())
    world.add("two", 2)
    world.run()
    assert world.keys("two") == [1, 2]
    world.kafka.expired = set()
    world.restart()
    world.add("two", 3)
    world.run()
    assert world.keys("one") == [1], "bronze has them again"


def test_tables_that_all_lack_events_stop_without_ending_the_query(world: World) -> None:
    world.add("one", 1)
    world.add("two", 1)
    world.kafka.expired = {world.topic("one"), world.topic("two")}
    assert world.run() == {"one": "stopped", "two": "stopped"}


def test_a_stopped_table_with_large_rows_is_caught_up_in_slices_that_fit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_streaming.batch.resumption.SLICE_BYTES_MAX", 4 * BIG)
    for key in range(20):
        world.add("one", key, pad=BIG)
    world.kafka.expired = {world.topic("one")}
    assert world.run() == {"one": "stopped"}
    world.kafka.expired = set()
    world.restart()
    world.add("one", 20, pad=9 * BIG)  # one event that no limit fits
    for _ in range(30):
        world.add("two", world.batch)
        if world.run().get("one") == "running":
            break
    assert world.keys("one") == list(range(21))
    assert world.kafka.largest < 11 * BIG

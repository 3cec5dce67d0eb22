"""One sink of raw events through a burst that waits in Kafka: events a second, and each event exactly once.

1. Debezium writes the first rows and a tenth of the burst to Kafka; the sink, in a worker of its own, takes them as its
   warming up.
2. The sink is paused, and the burst goes to Kafka.
3. The sink goes on. The seconds run from there until its own reader says that it has all.
4. Each event of Kafka must be there once, with an equal value. Only then there are figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition

from app.connectors.registration import BRONZE
from app.connectors.worker import Worker
from spark_streaming.storage.kafka_cluster import KafkaCluster
from tests.bench.peers.bronze_sinks import BronzeSink, Expected, OwnWorker, digest
from tests.bench.peers.contender import READER, Arena
from tests.bench.peers.trial import SETTLE_S, Unfinished
from tests.bench.peers.workload import MARKER, PeersWorkload
from tests.support.bronze import Place
from tests.support.circumstances import content_hash
from tests.support.measure import watched
from tests.support.stack import fresh_stack

KAFKA_S = 300.0
POLL_S = 0.25
FIRST_SHOWN = 3  # of the places that differ


class Topics:
    """All committed events of some topics, read on as they come; values are kept as digests."""

    def __init__(self, kafka: KafkaCluster, topics: Sequence[str]) -> None:
        self._kafka = kafka
        self._topics = topics
        self.events: dict[Place, str] = {}

    def read_to(self, mark: int) -> Expected:
        """Read each topic up to its last event: the marker row's, whose `v` is `mark`."""
        consumer = KafkaConsumer(
            **self._kafka.options, isolation_level="read_committed", enable_auto_commit=False
        )
        with closing(consumer):
            partitions = [TopicPartition(topic, 0) for topic in self._topics]
            consumer.assign(partitions)
            ends: dict[str, int] = {}
            deadline = time.monotonic() + KAFKA_S
            consumer.seek_to_beginning()
            while len(ends) < len(partitions):
                if time.monotonic() > deadline:
                    raise Unfinished(f"Kafka has mark {mark} of {sorted(ends)} only")
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        place = Place(record.topic, record.partition, record.offset)
                        self.events[place] = digest(record.value)
                        if _mark(record) == mark:
                            ends[record.topic] = record.offset
        return Expected(len(self.events), ends)


def bronze_trial(sink: BronzeSink, *, changes: int, seed: int = 1) -> dict[str, Any]:
    """Run a sink on a stack of its own. Returns: the verdict, and the figures if it is `equal`."""
    found: dict[str, Any] = {
        "contender": sink.name,
        "kind": "bronze",
        **sink.facts(),
        "changes": changes,
        "seed": seed,
    }
    with fresh_stack() as stack:
        stack.up("--only", "postgres")
        with stack.source() as source:
            load = PeersWorkload(source, rows=max(changes // 10, 500), seed=seed)
            load.create("DEFAULT")
            stack.up("--only", "connectors")
            Worker(*stack.settings.connect_urls).stop(BRONZE)
            folder = stack.home / "peers"
            folder.mkdir()
            arena = Arena(stack, folder, load.tables)
            try:
                found |= _measured(sink, arena, load, changes)
            except Unfinished as error:
                found |= {"verdict": "unfinished", "how": str(error)}
            finally:
                sink.stop()
    return found


def _measured(sink: BronzeSink, arena: Arena, load: PeersWorkload, changes: int) -> dict[str, Any]:
    settings = arena.stack.settings
    topics = Topics(
        settings.kafka, [f"{settings.topic_prefix}.public.{table}" for table in arena.tables]
    )
    worker = OwnWorker(sink, arena, rf"{settings.topic_prefix}\.public\.peer_\d+")
    try:
        load.burst(changes // 10)
        load.mark(1)
        before = topics.read_to(1)
        worker.start()
        _await_all(sink, worker, before)
        worker.pause()
        load.burst(changes)
        load.mark(2)
        expected = topics.read_to(2)
        events = expected.events - before.events
        volume = sink.volume()
        with watched(
            arena.stack, also={sink.name: worker.program.pid, **sink.pids()}, uncounted=(READER,)
        ) as resources:
            began = time.monotonic()
            worker.resume()
            _await_all(sink, worker, expected)
            seconds = time.monotonic() - began
        how = _differences(sink, topics.events)
        if how:
            print(worker.program.tail())
            return {"verdict": "differs", "how": how}
        after = sink.volume()
    finally:
        worker.program.stop()
    cpu = {name: round(resources.cpu_s.get(name, 0.0), 1) for name in (sink.name, "kafka", "s3")}
    return {
        "verdict": "equal",
        "workload": content_hash(load.connection, load.tables, load.seed),
        "events": events,
        "seconds": round(seconds, 1),
        "events_per_s": round(events / seconds),
        "events_per_cpu_s": round(events / max(sum(cpu.values()), 0.1)),
        "events_per_cpu_s_of_the_sink": round(events / max(cpu[sink.name], 0.1)),
        "files": after.files - volume.files,
        "bytes_per_event": round((after.stored_bytes - volume.stored_bytes) / events),
        "cpu_s": cpu,
        "sink_mib": resources.peak_mib.get(sink.name, 0),
    }


def _await_all(sink: BronzeSink, worker: OwnWorker, expected: Expected) -> None:
    deadline = time.monotonic() + KAFKA_S
    while not sink.kept(expected):
        if failure := worker.failure():
            raise Unfinished(failure)
        if time.monotonic() > deadline:
            raise Unfinished(f"it had not all {expected.events} events after {KAFKA_S:.0f} s")
        time.sleep(POLL_S)


def _differences(sink: BronzeSink, wanted: dict[Place, str]) -> list[str]:
    """What differs between the sink's events and Kafka's; late ones get SETTLE_S."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = compared(list(sink.events()), wanted)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def compared(kept: list[tuple[Place, str]], wanted: dict[Place, str]) -> list[str]:
    """One sentence for each way in which `kept` differs from `wanted`."""
    times = Counter(place for place, _ in kept)
    differing = {
        "missing": [place for place in wanted if place not in times],
        "there more than once": [place for place, number in times.items() if number > 1],
        "not in Kafka": [place for place in times if place not in wanted],
        "with another value": [place for place, value in kept if wanted.get(place, value) != value],
    }
    return [
        f"{len(places)} events {what}, the first: {', '.join(map(_text, places[:FIRST_SHOWN]))}"
        for what, places in differing.items()
        if places
    ]


def _text(place: Place) -> str:
    return f"{place.topic} {place.partition} {place.offset}"


def _mark(record: Any) -> int | None:
    """`v` of the marker row's event; None for another event."""
    if record.value is None or orjson.loads(record.key)["id"] != MARKER:
        return None
    after = orjson.loads(record.value)["after"]
    return None if after is None else int(after["v"])

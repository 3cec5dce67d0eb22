"""Sinks that keep each event of Kafka as it came: Headwater's bronze and Iceberg's, each in a worker of its own."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow.fs as pafs
import requests
from kafka.admin import KafkaAdminClient, NewTopic

from app.artefacts.dist import Artefacts
from app.connectors.registration import BRONZE, templates
from app.connectors.worker import Worker
from spark_streaming.storage.store_address import VARIABLES
from tests.bench.peers.contender import READER, Arena, Program, peers_artefacts
from tests.bench.peers.flink import java_command
from tests.support import bronze
from tests.support.bronze import Place
from tests.support.stack import ROOT
from tests.support.waiting import until

HEAP_MB = 640  # as the stack's own worker has
READY_S = 90.0
BUCKET = "peers"
WORKER = """\
bootstrap.servers={kafka}
listeners=http://127.0.0.1:{port}
plugin.path={plugins}
plugin.discovery=hybrid_warn
key.converter=org.apache.kafka.connect.converters.ByteArrayConverter
value.converter=org.apache.kafka.connect.converters.ByteArrayConverter
header.converter=org.apache.kafka.connect.converters.ByteArrayConverter
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms=2000
connector.client.config.override.policy=All
config.providers=env
config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider
"""


class Volume(NamedTuple):
    """What a sink has written."""

    files: int
    stored_bytes: int


class Expected(NamedTuple):
    """What a sink must have: the number of events, and the last one's offset by topic, each of one partition."""

    events: int
    ends: dict[str, int]


class BronzeSink(Protocol):
    """A sink connector, and its own reader.

    Attributes:
        name: in the report.
        variables: of its worker's environment.
    """

    name: str
    variables: dict[str, str]

    def facts(self) -> dict[str, Any]: ...

    def plugin(self) -> Path:
        """The folder that holds the plugin's folder."""

    def connector(self, arena: Arena, topics: str) -> dict[str, str]:
        """Its configuration for the topics of a regular expression; makes what it needs."""

    def kept(self, expected: Expected) -> bool:
        """Whether it seems to have all events; a cheap question."""

    def events(self) -> Iterator[tuple[Place, str]]:
        """Each event with the digest of its value, as often as it is there."""

    def volume(self) -> Volume: ...

    def pids(self) -> dict[str, int]:
        """A process that reads for the benchmark, as READER."""

    def stop(self) -> None: ...


def digest(value: bytes | None) -> str:
    """The digest of an event's value; a tombstone has none."""
    return "" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest()


class OwnBronze:
    """Headwater's bronze sink as shipped, into a bucket of its own in the stack's store."""

    name = "bronze"

    def facts(self) -> dict[str, Any]:
        return {"settings": "as shipped; objects on the stack's object store, one sequence a topic"}

    def plugin(self) -> Path:
        artefacts = Artefacts(ROOT)
        artefacts.prepare(["bronze-sink"])
        return artefacts.directory("bronze-sink")

    def connector(self, arena: Arena, topics: str) -> dict[str, str]:
        self._settings = arena.stack.settings
        self._prefix = f"{self._settings.topic_prefix}."
        self._store = bronze.store(self._settings)
        self._store.create_dir(BUCKET)
        self._offsets: dict[str, int] = {}
        store = self._settings.store
        self.variables = store.variables() | {
            VARIABLES["bronze_bucket"]: BUCKET,
            "HEADWATER_KAFKA": self._settings.kafka.addresses,
        }
        return {**templates()[BRONZE], "topics.regex": topics}

    def kept(self, expected: Expected) -> bool:
        paths = bronze.objects(self._settings, BUCKET, self._prefix)
        newest = {path.split("/")[1]: path for path in paths}
        return newest.keys() >= expected.ends.keys() and all(
            self._last_offset(newest[topic]) >= end for topic, end in expected.ends.items()
        )

    def _last_offset(self, path: str) -> int:
        """The offset of an object's last event; objects never change."""
        if path not in self._offsets:
            [*_, (place, _kept)] = bronze.bronze(self._settings, BUCKET, path.split("/", 1)[1])
            self._offsets[path] = place.offset
        return self._offsets[path]

    def events(self) -> Iterator[tuple[Place, str]]:
        for place, kept in bronze.bronze(self._settings, BUCKET, self._prefix):
            yield place, digest(kept.value)

    def volume(self) -> Volume:
        found = self._store.get_file_info(pafs.FileSelector(BUCKET, recursive=True))
        sizes = [info.size for info in found if info.path.endswith(".gz")]
        return Volume(len(sizes), sum(sizes))

    def pids(self) -> dict[str, int]:
        return {}

    def stop(self) -> None:
        """There is no process of its own."""


class IcebergSink:
    """Iceberg's sink for Kafka Connect, all topics into one table on the local disk, by a commit a second."""

    name = "iceberg-sink"

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self._reader: Program | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "iceberg-kafka-connect": "1.11.0",
            "settings": (
                "one task, a commit each second, Parquet with zstd, a Hadoop catalog on the local disk; topic, partition, "
                "offset, timestamp and value are kept by HoistField and InsertField, the key and headers are not; the "
                "consumer as Headwater's sink has it"
            ),
        }

    def plugin(self) -> Path:
        artefacts = peers_artefacts()
        artefacts.prepare(["iceberg-sink"])
        return artefacts.directory("iceberg-sink")

    def connector(self, arena: Arena, topics: str) -> dict[str, str]:
        settings = arena.stack.settings
        with closing(KafkaAdminClient(**settings.kafka.options)) as kafka:
            kafka.create_topics([NewTopic("control-iceberg", 1, 1)])
        warehouse = f"file://{arena.folder}/bronze"
        self._dump = arena.folder / "events.tsv"
        groups = ["flink", "hadoop", "iceberg", "paimon", "programs"]
        artefacts = peers_artefacts()
        artefacts.prepare(groups)
        command = [*java_command(artefacts, groups, 512), "dev.headwater.peers.EventsReader"]
        self._reader = Program(READER, [*command, warehouse], arena.folder, asked=True)
        self._reader.start()
        shipped = templates()[BRONZE]
        consumer = {
            key: value
            for key, value in shipped.items()
            if key.startswith("consumer.") and "interceptor" not in key
        }
        return {
            **consumer,
            "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
            "tasks.max": "1",
            "topics.regex": topics,
            "iceberg.tables": "lake.events",
            "iceberg.tables.auto-create-enabled": "true",
            "iceberg.catalog.type": "hadoop",
            "iceberg.catalog.warehouse": warehouse,
            "iceberg.control.topic": "control-iceberg",
            "iceberg.control.commit.interval-ms": "1000",
            "iceberg.kafka.bootstrap.servers": settings.kafka.addresses,
            "transforms": "hoist,place",
            "transforms.hoist.type": "org.apache.kafka.connect.transforms.HoistField$Value",
            "transforms.hoist.field": "value",
            "transforms.place.type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "transforms.place.topic.field": "topic",
            "transforms.place.partition.field": "partition",
            "transforms.place.offset.field": "offset",
            "transforms.place.timestamp.field": "timestamp",
        }

    def kept(self, expected: Expected) -> bool:
        return self._summary()[2] >= expected.events

    def events(self) -> Iterator[tuple[Place, str]]:
        assert self._reader is not None
        answer = self._reader.ask(f"dump {self._dump}")
        if not answer.isdigit():
            raise RuntimeError(answer)
        with open(self._dump, encoding="utf-8") as lines:
            for line in lines:
                topic, partition, offset, value = line.rstrip("\n").split("\t")
                yield Place(topic, int(partition), int(offset)), value

    def volume(self) -> Volume:
        files, size, _rows = self._summary()
        return Volume(files, size)

    def _summary(self) -> tuple[int, int, int]:
        """Files, bytes and rows of the newest snapshot; zeros until the sink has made the table."""
        assert self._reader is not None
        answer = self._reader.ask("volume")
        if answer.startswith("error"):
            return (0, 0, 0)
        files, size, rows = map(int, answer.split())
        return (files, size, rows)

    def pids(self) -> dict[str, int]:
        return {} if self._reader is None else {READER: self._reader.pid}

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.stop()


class OwnWorker:
    """A standalone Connect worker with one sink in it, so that its CPU is the sink's."""

    def __init__(self, sink: BronzeSink, arena: Arena, topics: str) -> None:
        self._name = sink.name
        connector = sink.connector(arena, topics)
        port = _free_port()
        properties, config = arena.folder / "worker.properties", arena.folder / "connector.json"
        properties.write_text(
            WORKER.format(
                kafka=arena.stack.settings.kafka.addresses,
                port=port,
                plugins=sink.plugin(),
                folder=arena.folder,
            )
        )
        config.write_text(json.dumps({"name": sink.name, "config": connector}))
        artefacts = Artefacts(ROOT)
        artefacts.prepare(["connect"])
        java = [
            *java_command(artefacts, ["connect"], HEAP_MB),
            "org.apache.kafka.connect.cli.ConnectStandalone", str(properties), str(config),
        ]  # fmt: skip
        java.insert(1, f"-Dlog4j2.configurationFile={ROOT}/connect/worker/log4j2.properties")
        self.program = Program("worker", java, arena.folder, sink.variables)
        self._url = f"http://127.0.0.1:{port}"
        self._rest = Worker(self._url)

    def start(self) -> None:
        """Start it, and wait until the sink's task runs."""
        self.program.start()
        self._await("RUNNING")

    def pause(self) -> None:
        """Let the sink rest, in its running process, until `resume`."""
        self._put("pause")
        self._await("PAUSED")

    def resume(self) -> None:
        """Let the sink go on; does not wait."""
        self._put("resume")

    def failure(self) -> str:
        """Why the sink has ended; empty while it runs."""
        if self.program.ended():
            return f"its process ended: {self.program.tail()}"
        failed = [task for task in self._rest.tasks(self._name) if task.state == "FAILED"]
        return "; ".join(f"{task} failed: {task.why}" for task in failed)

    def _put(self, verb: str) -> None:
        requests.put(f"{self._url}/connectors/{self._name}/{verb}", timeout=30).raise_for_status()

    def _await(self, state: str) -> None:
        until(
            lambda: [task.state for task in self._rest.tasks(self._name)],
            lambda states: states == [state, state],  # the connector's and its task's
            within_s=READY_S,
            what=f"{self._name} {state.lower()}",
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

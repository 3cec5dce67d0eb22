"""Peers that read the stack's own Debezium topics: Spark's MERGE in foreachBatch, and a bare loop."""

from __future__ import annotations

import os
from contextlib import closing
from importlib.metadata import version
from typing import Any

from kafka import KafkaAdminClient

from app.artefacts.dist import Artefacts
from app.connectors.registration import BRONZE
from app.connectors.worker import Worker
from spark_streaming.spark_home import make_spark_home
from tests.bench.peers.contender import Arena, Program, peers_python, python_job
from tests.bench.peers.local_delta import LocalDelta
from tests.support.stack import ROOT
from tests.support.waiting import until

SPARK_HEAP_MB = 2_048
TOPICS_S = 120.0


class KafkaFed(LocalDelta):
    """A program that folds topics into Delta tables.

    Postgres, Kafka, Connect and Debezium are the stack's; the bronze sink, which no peer has, is stopped.
    """

    services: tuple[str, ...] = ("connectors",)

    def __init__(self, identity: str) -> None:
        super().__init__()
        self.identity = identity

    def _options(self, arena: Arena) -> dict[str, Any]:
        settings = arena.stack.settings
        Worker(*settings.connect_urls).stop(BRONZE)
        self._lake = arena.folder / "lake"
        topics = {f"{settings.topic_prefix}.public.{name}": name for name in arena.tables}
        with closing(KafkaAdminClient(**settings.kafka.options)) as kafka:
            until(
                lambda: set(topics) - set(kafka.list_topics()),
                lambda absent: not absent,
                within_s=TOPICS_S,
                what="the first snapshot's topics",
            )
        return {
            "kafka": settings.kafka.addresses,
            "topics": topics,
            "lake": str(self._lake),
            "checkpoints": str(arena.folder / "checkpoints"),
        }


class SparkMerge(KafkaFed):
    """Spark Structured Streaming, one query a table, MERGE in foreachBatch."""

    name = "spark-merge"

    def facts(self) -> dict[str, Any]:
        return {
            "pyspark": version("pyspark"),
            "delta-spark": version("delta-spark"),
            "settings": (
                f"local[2], heap {SPARK_HEAP_MB} MB, 4 shuffle partitions, 5,000 generated classes kept, deletion "
                "vectors on, a query a table, each batch begun when the one before is done; tables and checkpoints on "
                "the local disk"
            ),
        }

    def _prepared(self, arena: Arena) -> Program:
        artefacts = Artefacts(ROOT)
        artefacts.prepare(["spark"])
        before = dict(os.environ)
        try:
            jars = ":".join(map(str, artefacts.classpath("spark")))
            os.environ["HEADWATER_SPARK_CLASSPATH"] = jars
            make_spark_home(arena.folder, heap_mb=SPARK_HEAP_MB, bind="127.0.0.1")
            made = {name: value for name, value in os.environ.items() if before.get(name) != value}
        finally:
            os.environ.clear()
            os.environ.update(before)
        return python_job(self.name, arena, "spark_merge", self._options(arena), **made)


class BareLoop(KafkaFed):
    """A Python loop: confluent-kafka, a dictionary, deltalake's merge."""

    name = "bare-loop"

    def facts(self) -> dict[str, Any]:
        return {
            "confluent-kafka": "2.16.1",
            "deltalake": version("deltalake"),
            "settings": (
                "one process, up to 20,000 records a round, the tables one after the other; tables on the local disk"
            ),
        }

    def _prepared(self, arena: Arena) -> Program:
        return python_job(
            self.name, arena, "bare_loop", self._options(arena), python=peers_python()
        )

"""A backlog of one table, folded and merged in the driver and by the executors.

Only Kafka and the object store run beside the job, which is this process. The benchmark measures the
job's own time, CPU and memory, with its JVM and Python workers.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.job_settings import SilverSettings, load_settings
from spark_streaming.reading.kafka_source import EventReader
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.session import start_session
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.lake import Lake
from tests.spark.backlog_job import Job, Table
from tests.support.measure import report
from tests.support.stack import ROOT, fresh_stack

ROWS = int(os.environ.get("HEADWATER_BENCH_ROWS", "300000"))
CHANGES = ROWS // 2
pytestmark = pytest.mark.timeout(3_600)
MIB = 1 << 20
ORDERS = Contract(
    "public",
    "orders",
    (
        Column("id", "bigint", "int64", nullable=False, base_type="int8"),
        Column("customer_id", "bigint", "int64", base_type="int8"),
        Column("status", "text", "text", base_type="text"),
        Column("note", "text", "text", base_type="text"),
        Column("price", "numeric(12,2)", "decimal", precision=12, scale=2, base_type="numeric"),
        Column("quantity", "integer", "int32", base_type="int4"),
        Column("placed_at", "timestamptz", "timestamptz", base_type="timestamptz"),
        Column("paid", "boolean", "bool", base_type="bool"),
    ),
    key=("id",),
)
WAYS: dict[str, dict[str, Any]] = {
    "driver": {"merge_engine": "delta-rs"},
    "executors": {"merge_engine": "auto", "spark_merge_rows_min": 1},
}


def test_a_backlog_in_the_driver_and_by_the_executors(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.artefacts.dist import Artefacts

    with fresh_stack() as stack:
        stack.up("--only", "s3", "kafka")
        artefacts = Artefacts(ROOT)
        artefacts.prepare(["spark"])
        variables = {
            **stack.settings.environment(),
            "HEADWATER_SPARK_CLASSPATH": ":".join(map(str, artefacts.classpath("spark"))),
            "HEADWATER_SILVER_DATA": str(tmp_path),
            "HEADWATER_SPARK_UI_PORT": "0",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = load_settings(SilverSettings)
        session = start_session(settings, "bench")
        try:
            report("backlog", _measured(Lake(settings.store), settings, session))
        finally:
            session.stop()


def _measured(lake: Lake, settings: SilverSettings, session: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": ROWS, "changes": CHANGES}
    contents = []
    for way, limits in WAYS.items():
        table = Table(lake, ORDERS)
        chosen = settings.model_copy(update=limits)
        job = Job(table, session, chosen, EventReader(chosen, session))
        admin = KafkaAdminClient(**settings.kafka.options)
        admin.create_topics([NewTopic(table.topic, 1, 1)])
        admin.close()
        # Each merges a small part first, so that Spark's code is compiled before the measurement.
        _send(
            settings.kafka,
            table.topic,
            [_event(table.name, "r", key, 90) for key in range(-200, 0)],
        )
        ends = [_end(settings.kafka, table.topic)]
        _send(
            settings.kafka, table.topic, (_event(table.name, "r", key, 90) for key in range(ROWS))
        )
        ends.append(_end(settings.kafka, table.topic))
        _send(settings.kafka, table.topic, (_change(table.name, n) for n in range(CHANGES)))
        ends.append(_end(settings.kafka, table.topic))
        begin = 0
        for number, (name, end) in enumerate(zip(("warm", "load", "changes"), ends, strict=True)):
            span = BatchSpan({table.topic: {0: begin}}, {table.topic: {0: end}})
            with _watched() as seen:
                row = job.run(number, span)
            begin = end
            found[f"{way}_{name}"] = {**seen, "engine": row.engine, "upserted": row.rows_upserted}
        contents.append(table.rows())
    assert contents[0] == contents[1]
    return {**found, "verdicts": {"the rows of both ways": "equal"}}


def _event(
    table: str, op: str, key: int, lsn: int, note: str = "as ordered"
) -> tuple[bytes, bytes]:
    row = {
        "id": key,
        "customer_id": key % 1000,
        "status": "placed",
        "note": f"{note} {key} {'.' * 40}",
        "price": f"{key % 500}.25",
        "quantity": key % 7,
        "placed_at": "2026-11-21T12:00:00.123456Z",
        "paid": key % 2 == 0,
    }
    source = {
        "version": "3.7.0.Final",
        "connector": "postgresql",
        "name": "hw",
        "ts_ms": 1_700_000_000_000,
        "snapshot": "true" if op == "r" else "false",
        "db": "shop",
        "sequence": json.dumps([None if op == "r" else "95", str(lsn)], separators=(",", ":")),
        "ts_us": 1_700_000_000_000_000 + lsn,
        "schema": "public",
        "table": table,
        "txId": 771,
        "lsn": lsn,
    }
    transaction = {"id": f"771:{lsn}", "total_order": 1, "data_collection_order": 1}
    document = {
        "before": None,
        "after": row,
        "source": source,
        "transaction": None if op == "r" else transaction,
        "op": op,
        "ts_ms": 1_700_000_000_000,
    }
    return json.dumps({"id": key}).encode(), json.dumps(document).encode()


def _change(table: str, number: int) -> tuple[bytes, bytes]:
    """Two updates of old rows to one new row."""
    if number % 3 == 2:
        return _event(table, "c", ROWS + number, 100 + number)
    return _event(table, "u", number * 7919 % ROWS, 100 + number, "changed")


def _send(kafka: KafkaCluster, topic: str, events: Any) -> None:
    producer = KafkaProducer(
        **kafka.options, acks=1, linger_ms=50, batch_size=512 << 10, compression_type="gzip"
    )
    for key, value in events:
        producer.send(topic, key=key, value=value, partition=0)
    producer.flush()
    producer.close()


def _end(kafka: KafkaCluster, topic: str) -> int:
    consumer = KafkaConsumer(**kafka.options, group_id=None)
    [end] = consumer.end_offsets([TopicPartition(topic, 0)]).values()
    consumer.close(autocommit=False)
    return int(end)


@contextmanager
def _watched() -> Iterator[dict[str, Any]]:
    """Seconds, CPU seconds and peak memory of this process and its children."""
    me, seen = psutil.Process(), dict[str, Any]()
    peak, stop = 0, threading.Event()
    cpu: dict[int, float] = {}
    before = _cpu(me)

    def sample() -> None:
        nonlocal peak
        while not stop.wait(0.25):
            cpu.update(_cpu(me))
            peak = max(peak, _memory(me))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    began = time.monotonic()
    yield seen
    seen["seconds"] = round(time.monotonic() - began, 1)
    stop.set()
    thread.join()
    cpu.update(_cpu(me))
    seen["cpu_s"] = round(sum(spent - before.get(pid, 0.0) for pid, spent in cpu.items()), 1)
    seen["peak_mib"] = peak // MIB


def _tree(me: psutil.Process) -> list[psutil.Process]:
    """This process, its JVM and the Python workers; not the stack's services."""
    found = [me]
    for child in me.children(recursive=True):
        try:
            if "app" not in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def _cpu(me: psutil.Process) -> dict[int, float]:
    found = {}
    for process in _tree(me):
        try:
            found[process.pid] = sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return found


def _memory(me: psutil.Process) -> int:
    total = 0
    for process in _tree(me):
        try:
            # Shared pages count once, because the workers are forks of one another.
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total

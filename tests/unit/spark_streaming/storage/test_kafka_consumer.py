"""A broker that accepts connections and never answers does not block our clients forever."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import pytest
from kafka.errors import KafkaError

from app.environment.settings import ROOT
from spark_streaming.storage import kafka_consumer
from spark_streaming.storage.kafka_cluster import KafkaCluster
from spark_streaming.storage.kafka_consumer import BoundedConsumer

OWN = Path(kafka_consumer.__file__)


def test_a_tls_handshake_that_nobody_answers_is_cut_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_consumer, "HANDSHAKE_S", 0.2)
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.1)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                try:
                    accepted.append(silent.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        cluster = KafkaCluster(f"127.0.0.1:{silent.getsockname()[1]}", security="SSL")
        began = time.monotonic()
        try:
            with pytest.raises(KafkaError):
                BoundedConsumer(**cluster.options, group_id=None, bootstrap_timeout_ms=3_000)
        finally:
            over.set()
            thread.join(timeout=10)
            for one in accepted:
                one.close()
        assert time.monotonic() - began < 30
        assert len(accepted) > 1


def test_every_consumer_of_the_product_is_the_bounded_one() -> None:
    direct = re.compile(r"import .*\bKafkaConsumer\b|kafka\.KafkaConsumer")
    wrong = [
        path
        for folder in ("app", "spark_streaming")
        for path in (ROOT / folder).rglob("*.py")
        if path != OWN and direct.search(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []

"""Silent clients, slow clients and many clients do not block the metrics server."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from spark_streaming.ops.metrics_server import serve_metrics
from tests.support.waiting import until

LIMIT_S = 0.5


@pytest.fixture
def port() -> Iterator[int]:
    registry = CollectorRegistry()
    Gauge("answer", "The answer", registry=registry).set(42)
    server = serve_metrics(registry, "127.0.0.1", 0, connections_max=2, connection_s=LIMIT_S)
    yield server.server_port
    server.shutdown()
    server.server_close()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_scrape_is_answered_again_and_again(port: int) -> None:
    assert all("answer 42.0" in scrape(port) for _ in range(5))


def test_a_silent_connection_is_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
        assert silent.recv(1) == b""


def test_a_client_that_sends_byte_after_byte_is_closed(port: int) -> None:
    def closed() -> bool:
        try:
            dripping.sendall(b"G")
        except OSError:
            return True
        time.sleep(LIMIT_S / 10)
        return False

    with socket.create_connection(("127.0.0.1", port), timeout=30) as dripping:
        until(closed, within_s=30, what="the server closes the connection")


def test_one_connection_too_many_is_refused_and_a_place_becomes_free_again(port: int) -> None:
    before = threading.active_count()
    crowd = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(20)]
    try:
        assert threading.active_count() - before <= 2 * 2  # a thread and its timer for each place
        until(lambda: "answer 42.0" in scrape(port), within_s=30, what="a scrape is answered again")
    finally:
        for connection in crowd:
            connection.close()

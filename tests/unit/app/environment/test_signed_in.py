"""An error of a request to Kafka Connect contains no password."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import requests

from app.connectors.worker import Worker, WorkerBusy
from app.errors import HeadwaterError
from app.health.connector_health import ConnectWorkers, observe

PASSWORD = "s3cret word"
SIGNED = "Basic " + base64.b64encode(f"headwater:{PASSWORD}".encode()).decode()


class Refuses(BaseHTTPRequestHandler):
    """Answers each request with the status in `status`; keeps the headers that sign in."""

    status = 503
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        self.send_error(self.status)

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """The URL of a worker that refuses everything, with user and password."""
    Refuses.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://headwater:s3cret%20word@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [401, 500, 503])
def test_an_error_of_a_worker_quotes_no_password(refusing: str, status: int) -> None:
    Refuses.status = status
    with pytest.raises(requests.RequestException) as of_health:
        observe(ConnectWorkers([refusing, refusing]))
    with pytest.raises((WorkerBusy, HeadwaterError)) as of_worker:
        Worker(refusing).stop("source")
    for one in (of_health, of_worker):
        assert str(one.value)
        assert "s3cret" not in repr(one.value)
    assert set(Refuses.seen) == {SIGNED}


def test_an_error_of_a_worker_that_is_away_quotes_no_password() -> None:
    away = "http://headwater:s3cret%20word@127.0.0.1:1"
    with pytest.raises(requests.RequestException) as of_health:
        observe(ConnectWorkers([away]))
    with pytest.raises(WorkerBusy) as of_worker:
        Worker(away).tasks("source")
    for one in (of_health, of_worker):
        assert "127.0.0.1" in str(one.value)
        assert "s3cret" not in repr(one.value)

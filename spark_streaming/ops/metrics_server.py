"""GET /metrics for Prometheus, with limits against silent, slow or too many clients."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

CONNECTIONS_MAX = 16
CONNECTION_S = 10.0  # from the first byte to the end of the answer; a scrape takes about 0.1 s


def serve_metrics(
    registry: CollectorRegistry,
    address: str,
    port: int,
    *,
    connections_max: int = CONNECTIONS_MAX,
    connection_s: float = CONNECTION_S,
) -> WSGIServer:
    """Answer GET /metrics on `address`:`port`, from threads of its own.

    A connection is closed after `connection_s` seconds, or at once if `connections_max` are open.

    Raises: OSError if the port is taken.
    """
    places = threading.BoundedSemaphore(connections_max)

    class Handler(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def setup(self) -> None:
            super().setup()
            self.limit = threading.Timer(connection_s, end, [self.connection])
            self.limit.daemon = True
            self.limit.start()

        def finish(self) -> None:
            self.limit.cancel()
            places.release()
            with suppress(OSError):  # the limit has ended the connection
                super().finish()

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

    def has_place(_request: Any, _client: Any) -> bool:
        return places.acquire(blocking=False)

    server, _ = start_http_server(port, addr=address, registry=registry)
    server.RequestHandlerClass = Handler
    server.verify_request = has_place  # type: ignore[assignment, method-assign]
    return server


def end(connection: socket.socket) -> None:
    """Shut the connection down, so that a thread that reads or writes on it wakes up."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

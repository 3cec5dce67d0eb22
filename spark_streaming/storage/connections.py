"""Time limits of connections: a dead or hanging peer must not block its caller."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

# For libpq: a network that drops packets is noticed after about ten seconds, even during a
# statement.
TCP_LIMITS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# For Kafka clients, whose own default for a request is five minutes.
KAFKA_LIMITS: dict[str, Any] = {"request_timeout_ms": 30_000}


@contextlib.contextmanager
def answer_within(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection if the block takes longer than `seconds`.

    Its statement then raises psycopg.OperationalError. This catches a server process that hangs:
    its kernel still acknowledges packets, and a timeout that the server enforces never fires.
    """
    timer = threading.Timer(seconds, _cut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(OSError, psycopg.Error):  # it has ended meanwhile
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)

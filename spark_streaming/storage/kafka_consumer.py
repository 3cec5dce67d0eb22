"""kafka-python's consumer with a limit on every wait.

Two waits of kafka-python 3.0 have no limit. The first is a TLS handshake: it is never answered if
the broker was just killed and the next one has taken its port. The second is the wait for metadata,
which `topics()` and `partitions_for_topic()` ask for over such a connection.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import kafka
import kafka.net.manager
from kafka.net.transport import KafkaSSLTransport

HANDSHAKE_S = 10.0


class BoundedConsumer(kafka.KafkaConsumer):
    """A consumer whose questions for metadata end after `request_timeout_ms`.

    Raises: KafkaTimeoutError, from `topics()` and `partitions_for_topic()`.
    """

    def _fetch_all_topic_metadata(self) -> None:
        cluster, limit_ms = self._cluster, self.config["request_timeout_ms"]
        if cluster.metadata_refresh_in_progress:
            self._net.run(self._manager.wait_for, cluster.request_update(), limit_ms)
        before = cluster.need_all_topic_metadata
        cluster.need_all_topic_metadata = True
        try:
            self._net.run(self._manager.wait_for, cluster.request_update(), limit_ms)
        finally:
            cluster.need_all_topic_metadata = before


class _BoundedTransport(KafkaSSLTransport):
    """A TLS connection that is cut if its handshake takes longer than HANDSHAKE_S."""

    async def handshake(self) -> None:
        timer = self._net.call_later(HANDSHAKE_S, self._cut)
        try:
            await super().handshake()
        finally:
            self._net.cancel(timer)

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


def bound_handshakes() -> None:
    """Make every client that this process creates from now on end a handshake that hangs."""
    manager: Any = kafka.net.manager
    manager.KafkaSSLTransport = _BoundedTransport

"""kafka-python's consumer with a limit on every wait.

Two waits of kafka-python 3.0 have none: a TLS handshake, which a broker that has just been killed never
answers where its port is taken by the next one, and the metadata that `topics()` and
`partitions_for_topic()` ask for over such a connection.
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
    """A connection under TLS that is cut where its handshake takes longer than HANDSHAKE_S."""

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
    """Let every client of this process that is made from now on end handshakes that hang."""
    manager: Any = kafka.net.manager
    manager.KafkaSSLTransport = _BoundedTransport

"""Counts the requests to a store: a TCP proxy that reads the first word of each request."""

from __future__ import annotations

import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 1 << 16
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
# The billing classes of object stores: the first costs ten times the second, a delete is free.
WRITES = ("PUT", "POST")
READS = ("GET", "HEAD")


class CountedRequests:
    """Requests by method since the proxy's start. Clients send one at a time on a connection, so each
    begins with the next bytes that the proxy receives."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._counts: Counter[str] = Counter()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._ended = threading.Event()
        self.port = int(self._server.getsockname()[1])

    def now(self) -> Counter[str]:
        """The counts so far."""
        return Counter(self._counts)

    def serve(self) -> None:
        """Accept connections until the end, each in a thread of its own."""
        while not self._ended.is_set():
            with suppress(OSError):
                client, _ = self._server.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def end(self) -> None:
        """Stop accepting connections; open ones end with the test."""
        self._ended.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._server.close()

    def _relay(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._to) as server:
            others = {client: server, server: client}
            with selectors.DefaultSelector() as ready:
                for one in others:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    ready.register(one, selectors.EVENT_READ, one)
                while not self._ended.is_set():
                    for key, _ in ready.select(timeout=1):
                        sender = key.data
                        received = sender.recv(CHUNK)
                        if not received:
                            return
                        if sender is client:
                            self._count(received)
                        others[sender].sendall(received)

    def _count(self, received: bytes) -> None:
        word = received[:8].partition(b" ")[0].decode("ascii", errors="replace")
        if word in METHODS:
            self._counts[word] += 1


@contextmanager
def counted(host: str, port: int) -> Iterator[CountedRequests]:
    """A proxy to this address during the block."""
    relay = CountedRequests(host, port)
    thread = threading.Thread(target=relay.serve, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.end()
        thread.join(timeout=10)

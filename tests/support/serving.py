"""One of our HTTP servers in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from tests.support.waiting import until

PATIENCE_S = 20.0


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[int]:
    """Run a server on a free port in a thread; yields the port."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, within_s=PATIENCE_S, what="the server")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE_S)

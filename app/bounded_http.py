"""HTTP servers that close connections which keep them waiting: silent ones, slow senders and readers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Limits:
    """The number of connections, and how long each may keep the server waiting, in seconds.

    Args:
        connections_max: open ones; one more closes the one that has been idle longest.
        head_s: from the connection, or a request's first byte, to the end of its head.
        body_s: from there to the end of the body.
        read_s: for a client that does not read the answer.
        stop_s: for running requests when the server is stopped.
    """

    connections_max: int
    head_s: float = 10.0
    body_s: float = 30.0
    read_s: float = 30.0
    stop_s: int = 2


def server_of(
    app: ASGIApp, host: str, port: int, limits: Limits, pair: tuple[str, str] | None = None
) -> uvicorn.Server:
    """Make a server for `app` that enforces `limits`; it logs no requests.

    Args:
        pair: the files of key and certificate, for TLS.
    """

    class Protocol(BoundedProtocol):
        limits: ClassVar[Limits]

    Protocol.limits = limits
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            ssl_keyfile=pair[0] if pair else None,
            ssl_certfile=pair[1] if pair else None,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=limits.stop_s,
            ws="none",
        )
    )


class BoundedProtocol(H11Protocol):
    """One connection. uvicorn itself closes only connections that are silent after an answer."""

    limits: ClassVar[Limits]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits_for: str | None = None  # head or body
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None
        self.since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room if too many connections are open; then wait for the head of a request."""
        if len(self.connections) >= self.limits.connections_max:
            idle = [one for one in self.connections if isinstance(one, BoundedProtocol)]
            idle = [one for one in idle if one.is_idle()]
            if not idle:
                transport.abort()
                return
            min(idle, key=lambda one: one.since).end()
        super().connection_made(transport)
        self.since = self.loop.time()
        self._await("head")

    def is_idle(self) -> bool:
        """Return whether no request is running."""
        return self.cycle is None or self.cycle.response_complete

    def end(self) -> None:
        """Close the connection at once."""
        self.connections.discard(self)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._await(None)
        self._await_reader(False)
        if self.transport is not None:  # else it was refused
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes. A limit begins with the first byte of a part; further bytes do not extend it."""
        if self.transport is None:
            return
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Continue with the next request, which may have been received already."""
        super().on_response_complete()
        self.since = self.loop.time()
        self._follow()

    def timeout_keep_alive_handler(self) -> None:
        """Close after the silence that follows an answer, whether the client has read it or not."""
        super().timeout_keep_alive_handler()
        self._await_reader(True)

    def send_400_response(self, msg: str) -> None:
        """Answer a message that is not HTTP, and close, whether the client reads the answer or not."""
        super().send_400_response(msg)
        self._await_reader(True)

    def pause_writing(self) -> None:
        """Begin the limit for a client that does not read."""
        super().pause_writing()
        self._await_reader(True)

    def resume_writing(self) -> None:
        """Remove the time limit, because the client reads again."""
        super().resume_writing()
        self._await_reader(False)

    def _follow(self) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._await("body")
        elif state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._await("head")
        else:
            self._await(None)

    def _await(self, part: str | None) -> None:
        if part == self._waits_for:
            return
        self._waits_for = part
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if part is not None:
            limit_s = self.limits.head_s if part == "head" else self.limits.body_s
            self._timer = self.loop.call_later(limit_s, self.end)

    def _await_reader(self, waits: bool) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        if waits:
            self._reader = self.loop.call_later(self.limits.read_s, self.end)

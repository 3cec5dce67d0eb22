"""On a real server with real sockets, only connections that keep it waiting are closed."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.bounded_http import Limits, server_of
from tests.support.serving import serving
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 0.6
LIMITS = Limits(connections_max=4, head_s=LIMIT_S, body_s=LIMIT_S, read_s=LIMIT_S)
PATIENCE_S = 20.0
LONG_BYTES = 64 << 20
GET = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with its body; `/slowly` writes for three times the limit, `/long` writes much."""
    if scope["type"] != "http":
        return
    answer: Response
    if scope["path"] == "/slowly":
        answer = StreamingResponse(_slowly())
    elif scope["path"] == "/long":
        answer = StreamingResponse(iter([b"x" * (1 << 16)] * (LONG_BYTES >> 16)))
    else:
        answer = PlainTextResponse(b"got " + await Request(scope, receive).body())
    await answer(scope, receive, send)


async def _slowly() -> AsyncIterator[bytes]:
    for number in range(6):
        yield b"%d" % number
        await asyncio.sleep(LIMIT_S / 2)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(server_of(application, "127.0.0.1", 0, LIMITS)) as found:
        yield found


def calling(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def all_of(connection: socket.socket) -> bytes:
    """The bytes that the server sends until it closes the connection; TimeoutError if it does not close it."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nhost: he", b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\nhalf"],
    ids=["nothing", "half a head", "half a body"],
)  # fmt: skip
def test_a_connection_that_falls_silent_is_ended(port: int, sent: bytes) -> None:
    with closing(calling(port)) as connection:
        connection.sendall(sent)
        assert all_of(connection) == b""


@pytest.mark.parametrize(
    ("begin", "drop"),
    [(b"GET / HTTP/1.1\r\nx: ", b"y"), (b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 9999\r\n\r\n", b"z")],
    ids=["head", "body"],
)  # fmt: skip
def test_no_further_byte_prolongs_a_limit(port: int, begin: bytes, drop: bytes) -> None:
    with closing(calling(port)) as connection:
        connection.sendall(begin)

        def is_ended() -> bool:
            try:
                connection.sendall(drop)
            except OSError:
                return True
            return False

        until(is_ended, within_s=PATIENCE_S, what="the end of a connection that drips")


def test_a_connection_that_asks_again_is_served_and_an_answer_may_take_long(port: int) -> None:
    with closing(calling(port)) as connection:
        for _ in range(2):
            connection.sendall(GET)
            until(lambda: b"got" in connection.recv(1 << 16), within_s=PATIENCE_S, what="an answer")
        connection.sendall(
            GET.replace(b"GET /", b"GET /slowly").replace(
                b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"
            )
        )
        assert all_of(connection).endswith(b"0\r\n\r\n"), "the whole answer came"


def test_a_body_in_pieces_within_the_limit_is_taken(port: int) -> None:
    with closing(calling(port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"POST / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n")
        connection.sendall(b"content-length: 4\r\n\r\nab")
        connection.sendall(b"cd")
        assert all_of(connection).endswith(b"got abcd")


def test_silent_connections_do_not_keep_others_out(port: int) -> None:
    silent = [calling(port) for _ in range(3 * LIMITS.connections_max)]
    try:
        with closing(calling(port)) as connection:
            connection.sendall(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            assert all_of(connection).endswith(b"got ")
    finally:
        for one in silent:
            one.close()


def test_a_client_that_does_not_read_is_ended(port: int) -> None:
    with closing(calling(port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(GET.replace(b"GET /", b"GET /long"))
        connection.settimeout(0.01)

        def is_ended() -> bool:
            try:
                connection.send(b"x")
            except TimeoutError:
                return False
            except OSError:
                return True
            return False

        until(is_ended, within_s=PATIENCE_S, what="the end of a connection that does not read")


def test_the_page_and_the_intake_run_on_that_server() -> None:
    for name in ("page", "intake"):
        source = (ROOT / "app" / name / "__main__.py").read_text()
        assert "server_of(" in source and not re.search(r"\buvicorn\b", source)

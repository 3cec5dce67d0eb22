"""The proxy that tests put between two parts: what passes, what is held, and what is cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.proxy import Proxy
from tests.support.waiting import until

SOON_S = 10.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with echo_server() as port, Proxy(port).running() as running:
        yield running


@contextmanager
def echo_server() -> Iterator[int]:
    """A server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(client: socket.socket) -> None:
            with client, suppress(ConnectionError):
                while piece := client.recv(65_536):
                    client.sendall(piece)

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SOON_S)


def received(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (piece := client.recv(65_536)):
        found += piece
    return found


def test_bytes_pass_in_both_directions_until_the_client_ends(proxy: Proxy) -> None:
    sent = b"x" * 300_000
    with connected(proxy) as client:
        threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
        assert received(client, len(sent)) == sent
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_nothing_passes_while_it_is_broken_off_and_all_of_it_afterwards(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"a")
        assert received(client, 1) == b"a"
        proxy.break_off()
        until(lambda: not proxy._open.is_set(), within_s=SOON_S, what="nothing passes")
        client.sendall(b"b")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.heal()
        client.settimeout(SOON_S)
        assert received(client, 1) == b"b"


def test_a_connection_is_cut_in_the_middle_and_the_next_one_passes_when_it_is_healed(
    proxy: Proxy,
) -> None:
    proxy.cut(1_000)
    with connected(proxy) as client:
        client.sendall(b"x" * 5_000)
        found = b""
        with suppress(ConnectionResetError):
            found = received(client, 5_000)
        assert len(found) < 5_000
    assert proxy.cuts > 0
    proxy.heal()
    with connected(proxy) as client:
        client.sendall(b"y" * 5_000)
        assert received(client, 5_000) == b"y" * 5_000


def test_a_server_that_is_away_is_a_connection_that_ends(proxy: Proxy) -> None:
    proxy.target = 1
    with connected(proxy) as client:
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""

"""Liveness probes: whether a service that has been ready still answers."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.launcher.readiness_probe import PROBE_TIMEOUT_S, probe_http, probe_tcp, reason
from app.launcher.supervision.unit import Probe
from app.services.service import Service

SCAN_EVERY_S = 1.0
# Processes of other sessions are read again only after this time: a machine has hundreds of them.
OTHERS_AGAIN_S = 30.0
ANSWER_BYTES = 4096
# ApiVersions, version 0, from a client without a name: every broker answers it before any login.
KAFKA_REQUEST = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
# SSLRequest: a server of any version answers one byte, from a process that it starts for that.
POSTGRES_REQUEST = bytes.fromhex("00000008 04d2162f")
# `getName` of fb303, which each of its servers has; no arguments.
THRIFT_REQUEST = bytes.fromhex("80010001 00000007") + b"getName" + bytes.fromhex("00000001 00")


def probe_running(service: Service, render: Callable[[str], str]) -> Probe:
    """Probe a running service; one without a probe counts as alive while its process runs.

    Args:
        render: renders a template of its description.
    """
    alive, ready = service.alive, service.ready
    if alive is not None:
        for address, request in (
            (alive.kafka or alive.kafka_tls, KAFKA_REQUEST),
            (alive.postgres, POSTGRES_REQUEST),
            (alive.thrift, THRIFT_REQUEST),
        ):
            if address is not None:
                return probe_bytes(render(address), request, tls=alive.kafka_tls is not None)
    if ready is not None and ready.http is not None:
        return probe_http(render(ready.http), ready.status)
    if ready is not None and ready.tcp is not None:
        return probe_tcp(render(ready.tcp))
    return Probe(True, "it runs")


def probe_bytes(address: str, request: bytes, *, tls: bool = False) -> Probe:
    """Whether `host:port` answers anything to a request, which is sent under TLS if `tls` is True."""
    host, _, port = address.rpartition(":")
    try:
        with contextlib.ExitStack() as open_ones:
            connection = socket.create_connection((host, int(port)), PROBE_TIMEOUT_S)
            open_ones.enter_context(connection)
            if tls:
                context = ssl.create_default_context()
                connection = context.wrap_socket(connection, server_hostname=host)
                open_ones.enter_context(connection)
            connection.sendall(request)
            # The whole handshake: a server reports a connection that is closed earlier as broken.
            answer = connection.recv(ANSWER_BYTES)
    except OSError as error:
        return Probe(False, f"ask {address}: {reason(error)}")
    return Probe(bool(answer), f"{address} {'answers' if answer else 'closes the connection'}")


class StoppedProcesses:
    """Finds processes that a signal has stopped (SIGSTOP); one scan serves all services."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._scanned_at = 0.0
        self._by_session: dict[int, int] = {}
        self._sessions: set[int] = set()  # those that were asked for
        self._others: set[str] = set()  # processes of other sessions
        self._others_at = 0.0

    def of(self, session: int) -> int | None:
        """Return a stopped process of this session, or None. Each service has a session of its own."""
        with self._lock:
            now = time.monotonic()
            if session not in self._sessions or now >= self._others_at + OTHERS_AGAIN_S:
                self._sessions.add(session)
                self._others.clear()
                self._others_at = self._scanned_at = now
                self._by_session = dict(self._scan())
            elif now >= self._scanned_at + SCAN_EVERY_S:
                self._by_session = dict(self._scan())
                self._scanned_at = now
            return self._by_session.get(session)

    def _scan(self) -> list[tuple[int, int]]:
        stopped = []
        for entry in os.scandir(self._proc):
            name = entry.name
            if not name.isdigit() or name in self._others:
                continue
            try:
                stat = (self._proc / name / "stat").read_text()
            except OSError:
                continue  # it has ended
            # The name, in parentheses, may hold blanks and parentheses. A debugger's stop is "t".
            fields = stat[stat.rindex(")") + 2 :].split()
            session = int(fields[3])
            if session not in self._sessions:
                self._others.add(name)
            elif fields[0] == "T":
                stopped.append((session, int(name)))
        return stopped

"""Liveness probes: whether a service that has been ready still answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from app.launcher.readiness_probe import PROBE_TIMEOUT_S, probe_http, probe_tcp, reason
from app.launcher.supervision.unit import Probe
from app.services.service import Service

SCAN_EVERY_S = 1.0
# ApiVersions, version 0, from a client without a name: every broker answers it before any login.
KAFKA_REQUEST = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
# SSLRequest: a server of any version answers one byte, in a process that it has made for it.
POSTGRES_REQUEST = bytes.fromhex("00000008 04d2162f")


def probe_running(service: Service, render: Callable[[str], str]) -> Probe:
    """Probe a running service; one without a probe counts as alive while its process runs.

    Args:
        render: renders a template of its description.
    """
    alive, ready = service.alive, service.ready
    if alive is not None:
        request = KAFKA_REQUEST if alive.kafka else POSTGRES_REQUEST
        return probe_bytes(render(alive.kafka or alive.postgres or ""), request)
    if ready is not None and ready.http is not None:
        return probe_http(render(ready.http), ready.status)
    if ready is not None and ready.tcp is not None:
        return probe_tcp(render(ready.tcp))
    return Probe(True, "it runs")


def probe_bytes(address: str, request: bytes) -> Probe:
    """Whether `host:port` answers anything to a request."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PROBE_TIMEOUT_S) as connection:
            connection.sendall(request)
            answer = connection.recv(1)
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

    def of(self, session: int) -> int | None:
        """Return a stopped process of this session, or None. Each service has a session of its own."""
        with self._lock:
            now = time.monotonic()
            if now >= self._scanned_at + SCAN_EVERY_S:
                self._by_session = dict(self._scan())
                self._scanned_at = now
            return self._by_session.get(session)

    def _scan(self) -> list[tuple[int, int]]:
        stopped = []
        for entry in self._proc.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended
            # The name, in parentheses, may hold blanks and parentheses. A debugger's stop is "t".
            fields = stat[stat.rindex(")") + 2 :].split()
            if fields[0] == "T":
                stopped.append((int(fields[3]), int(entry.name)))
        return stopped

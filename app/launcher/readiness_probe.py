"""Readiness probes: each makes one attempt within a time limit, and returns the observation."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from app.environment.signed_in import without_user
from app.launcher.supervision.unit import Probe
from app.processes import log_files as logs

PROBE_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0


def probe_tcp(address: str) -> Probe:
    """Whether `host:port` accepts a connection."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PROBE_TIMEOUT_S):
            return Probe(True, f"{address} accepts connections")
    except OSError as error:
        return Probe(False, f"connect {address}: {reason(error)}")


def probe_http(url: str, statuses: Sequence[int] | None) -> Probe:
    """Whether GET `url` answers with one of `statuses` (any 2xx if None)."""
    # `requests` is not used here, because it would send requests to loopback through the user's
    # proxy.
    parts = urlsplit(url)
    url = without_user(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PROBE_TIMEOUT_S)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers=authorization(parts))
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Probe(False, f"GET {url}: {reason(error)}")
    finally:
        connection.close()
    accepted = status in statuses if statuses else 200 <= status < 300
    return Probe(accepted, f"GET {url}: status {status}")


def authorization(parts: SplitResult) -> dict[str, str]:
    """Return the header that signs in as the URL's user; empty if it names none."""
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def probe_log(pattern: str, since: Mapping[Path, int]) -> Probe:
    """Whether `pattern` (a regular expression) was written to one of the logs since its offset."""
    expression = re.compile(pattern)
    for path, offset in since.items():
        start = offset if offset <= logs.size(path) else 0
        if expression.search(logs.read(path, start)):
            return Probe(True, f"`{pattern}` in {path.name}")
    return Probe(False, f"`{pattern}` not yet in {' or '.join(path.name for path in since)}")


def probe_command(command: Sequence[str], run: Callable[..., subprocess.Popen[bytes]]) -> Probe:
    """Whether `command` exits 0; `run` starts it with its output in a pipe."""
    process = run(command)
    try:
        output, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Probe(False, f"{Path(command[0]).name}: no answer in {COMMAND_TIMEOUT_S:g} s")
    last = output.decode(errors="replace").strip().splitlines()[-1:] or [""]
    observed = f"{Path(command[0]).name}: exit code {process.returncode} {last[0]}".strip()
    return Probe(process.returncode == 0, observed)


def reason(error: Exception) -> str:
    """Describe a connection's exception in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"no answer in {PROBE_TIMEOUT_S:g} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()

"""A reader's own records: its log on stderr and, if an intake is given, also in the lake.

With HEADWATER_INTAKE_URL and HEADWATER_INTAKE_TOKEN its lines become rows of `lake.silver.app_logs`
and its states (started, ended, failed) rows of `lake.silver.app_runs`, joined by `run_id`.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from app.errors import HeadwaterError
from app.intake.client import StreamClient

LOGS, RUNS = "app_logs", "app_runs"
# An intake that does not answer must not delay a reader for long.
RETRY_S = 10.0


class Run:
    """One run of a reader; a record that does not reach the intake is reported on stderr."""

    def __init__(self, service: str, environment: Mapping[str, str]) -> None:
        self.service = service
        self.id = f"{service}/{socket.gethostname()}/{os.getpid()}/{time.time():.3f}"
        self._clients: dict[str, StreamClient] = {}
        url = environment.get("HEADWATER_INTAKE_URL")
        token = environment.get("HEADWATER_INTAKE_TOKEN")
        if not url:
            return
        if not token:
            raise HeadwaterError(
                "HEADWATER_INTAKE_TOKEN is not set", hint="`./headwater streams login` prints it"
            )
        try:
            self._clients = {
                name: StreamClient(
                    url, token, name, retry_s=RETRY_S, on_refused=_refused, on_lost=_lost
                )
                for name in (LOGS, RUNS)
            }
        except ValueError as error:
            raise HeadwaterError(str(error), hint="set HEADWATER_INTAKE_URL") from None

    def log(self, level: str, message: str) -> None:
        """Log one line."""
        print(message, file=sys.stderr)
        data = {"level": level, "message": message, "file": "stderr"}
        self._send(LOGS, data)

    def state(self, state: str, *, error: str | None = None, **details: Any) -> None:
        """Record a new state of the run, with details."""
        data = {"state": state, "pid": os.getpid(), "error": error, "details": details}
        self._send(RUNS, data, key=f"{self.id}/{state}")

    def close(self) -> None:
        """Send the waiting records; report on stderr those that cannot be sent."""
        for client in self._clients.values():
            client.close(timeout_s=RETRY_S)
        self._clients = {}

    def _send(self, stream: str, data: dict[str, Any], key: str | None = None) -> None:
        client = self._clients.get(stream)
        if client is None:
            return
        present = {name: value for name, value in data.items() if value is not None}
        try:
            client.send(
                {"service": self.service, "run_id": self.id, **present}, key=key, timeout_s=0
            )
        except queue.Full:
            _lost([present], "too many wait")


def _refused(event: dict[str, Any]) -> None:
    print(f"the intake refused a record of this run: {event.get('reason')}", file=sys.stderr)


def _lost(events: Any, reason: str) -> None:
    print(f"{len(events)} record(s) of this run are lost: {reason}", file=sys.stderr)

"""Connectors and their tasks, as Kafka Connect's REST interface tells them."""

from __future__ import annotations

from collections import Counter

import requests

from app.metrics.board import Board

TIMEOUT_S = 5


class ConnectorCollector:
    """States of connectors and tasks."""

    name = "connect"
    period_s = 10.0
    share = 0.001

    def __init__(self, url: str, board: Board) -> None:
        self._url = f"{url.rstrip('/')}/connectors?expand=status"
        self._board = board
        self._session = requests.Session()
        self._session.trust_env = False  # loopback is never behind a proxy
        self._known: set[str] = set()

    def collect(self) -> None:
        answer = self._session.get(self._url, timeout=TIMEOUT_S)
        answer.raise_for_status()
        running, tasks = {}, {}
        for name, found in answer.json().items():
            status = found["status"]
            states = [task["state"].lower() for task in status["tasks"]]
            whole = [status["connector"]["state"].lower(), *states]
            running[(name,)] = float(bool(states) and set(whole) == {"running"})
            for state in ("running", "failed"):
                tasks[(name, state)] = 0.0
            tasks |= {(name, state): float(n) for state, n in Counter(states).items()}
        self._known |= {name for (name,) in running}
        self._board.replace("headwater_connector_running", running)
        self._board.replace("headwater_connector_tasks", tasks)

    def reset(self) -> None:
        # A worker that does not answer runs no connector.
        gone = {(name,): 0.0 for name in self._known}
        self._board.replace("headwater_connector_running", gone)
        self._board.replace("headwater_connector_tasks", {})

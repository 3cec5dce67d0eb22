"""Connectors and their tasks; `app/health` decides whether one carries events, as in `status`."""

from __future__ import annotations

from collections import Counter

from app.health.connector_health import ConnectWorkers, observe
from app.metrics.board import Board


class ConnectorCollector:
    """States of connectors and tasks."""

    name = "connect"
    period_s = 10.0
    share = 0.001

    def __init__(self, workers: ConnectWorkers, board: Board) -> None:
        self._workers = workers
        self._board = board
        self._known: set[str] = set()

    def collect(self) -> None:
        """Raises: the exceptions of `observe`."""
        seen = observe(self._workers)
        running, tasks = {}, {}
        for name, status in seen.statuses.items():
            states = [task["state"].lower() for task in status["tasks"]]
            running[(name,)] = float(name not in seen.problems)
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

"""Whether Trino's rules follow `access.toml`, as the registrar reports it."""

from __future__ import annotations

from pathlib import Path

from app.environment.service_problem import problem_of
from app.metrics.board import Board

METRIC = "headwater_rules_not_applied"
SERVICE = "tables"  # the registrar reports nothing else


class RulesCollector:
    """Reads the report of the service `tables`."""

    name = "rules"
    period_s = 5.0
    share = 0.0001

    def __init__(self, home: Path, board: Board) -> None:
        self._home = home
        self._board = board

    def collect(self) -> None:
        self._board.set(METRIC, float(bool(problem_of(self._home, SERVICE))))

    def reset(self) -> None:
        pass  # it keeps nothing

"""Conditions of contracts on whole tables: each is one number, which Trino computes from time to time."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.metrics.board import Board
from app.query.trino_connection import connect
from spark_streaming.contract.contract import quoted
from spark_streaming.contract.contract_files import TableCondition

log = logging.getLogger("metrics")
CONDITIONS_MAX = 200
FAILED_AGAIN_S = 15.0
# The number of values against which a fall is measured, at most.
HISTORY_MAX = 1_500
RUN_LIMIT_S = 60
_LIMITS = {"query_max_run_time": f"{RUN_LIMIT_S}s", "query_max_cpu_time": "20s"}

Name = tuple[str, str]  # silver table, condition
Ask = Callable[[str], "float | None"]


def statement(table: str, condition: TableCondition) -> str:
    """Write the query for Trino; its answer is one double, or NULL."""
    where = f" WHERE {condition.where}" if condition.where else ""
    return f"SELECT CAST(({condition.value}) AS double) FROM lake.silver.{quoted(table)}{where}"


def ask_trino(url: str) -> Ask:
    """Return a function that runs one statement on a new connection; it raises the client's errors."""

    def ask(sql: str) -> float | None:
        connection: Any = connect(
            url,
            source="headwater-metrics",
            request_timeout=RUN_LIMIT_S,
            max_attempts=1,
            session_properties=_LIMITS,
        )
        rows = connection.cursor().execute(sql).fetchall()
        return None if not rows or rows[0][0] is None else float(rows[0][0])

    return ask


@dataclass
class Watched:
    """One condition with its recent values."""

    condition: TableCondition
    due: float = 0.0
    answered: bool = False
    asked: bool = False
    value: float | None = None
    seen: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    reported: str = ""

    def add(self, now: float, value: float | None) -> None:
        """Add the newest value."""
        self.answered, self.value = True, value
        if value is not None:
            self.seen.append((now, value))
        while self.seen and self.seen[0][0] < now - self.condition.over:
            self.seen.popleft()

    @property
    def breached(self) -> bool:
        """Whether the newest value is out of bounds; NULL never is."""
        value, bounds = self.value, self.condition
        if value is None:
            return False
        if bounds.min is not None and value < bounds.min:
            return True
        if bounds.max is not None and value > bounds.max:
            return True
        highest = max((each for _, each in self.seen), default=value)
        return bounds.max_fall is not None and value < highest * (1 - bounds.max_fall)


class ConditionCollector:
    """Runs the queries that are due, one at a time, in a separate thread, since a table may be large."""

    name = "conditions"
    period_s = 5.0
    share = 0.001

    def __init__(
        self,
        conditions: Callable[[], list[tuple[str, TableCondition]]],
        ask: Ask,
        board: Board,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conditions = conditions
        self._ask = ask
        self._board = board
        self._clock = clock
        self._watched: dict[Name, Watched] = {}
        self._question: threading.Thread | None = None

    def collect(self) -> None:
        if self._question is not None and self._question.is_alive():
            return
        self._refresh()
        self._export()
        now = self._clock()
        due = [(watched.due, name) for name, watched in self._watched.items() if watched.due <= now]
        if due:
            name = min(due)[1]
            # A daemon thread, so that the exporter can end without waiting for an answer.
            self._question = threading.Thread(
                target=self.query, args=(name, self._watched[name]), daemon=True
            )
            self._question.start()

    def query(self, name: Name, watched: Watched) -> None:
        """Run one condition's query and keep its value."""
        again_s = watched.condition.every
        try:
            watched.add(self._clock(), self._ask(statement(name[0], watched.condition)))
            failure = ""
        except Exception as error:  # noqa: BLE001 - logged, and a separate alert reports it
            # Keep the last value: a breach does not end because Trino does not answer.
            watched.answered = False
            failure = f"{getattr(error, 'message', error)}".strip().split("\n")[0][:300] or "?"
            again_s = min(again_s, FAILED_AGAIN_S)
        watched.asked = True
        watched.due = self._clock() + again_s
        if failure != watched.reported:
            log.warning("condition %s of %s: %s", name[1], name[0], failure or "works again")
            watched.reported = failure

    def _refresh(self) -> None:
        """Read the contracts' conditions again; forget the values of a changed condition."""
        wanted = {(table, one.name): one for table, one in self._conditions()[:CONDITIONS_MAX]}
        known = self._watched
        self._watched = {
            name: known[name] if name in known and known[name].condition == one else Watched(one)
            for name, one in wanted.items()
        }

    def _export(self) -> None:
        asked = {name: one for name, one in self._watched.items() if one.asked}
        answered = {name: float(one.answered) for name, one in asked.items()}
        values = {name: one.value for name, one in asked.items() if one.value is not None}
        breached = {
            name: float(one.breached)
            for name, one in asked.items()
            if one.answered or one.value is not None
        }
        self._board.replace("headwater_condition_answered", answered)
        self._board.replace("headwater_condition_value", values)
        self._board.replace("headwater_condition_breached", breached)

    def reset(self) -> None:
        """Do nothing: each query opens its own connection."""

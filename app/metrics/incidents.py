"""Incidents: a part that should work and does not, from when it was seen to until it works again.

Nothing is asked anew: the other collectors and the ledger have told all of it. What begins and
ends between two looks is not seen; a service's restarts are counted by themselves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from app.metrics.board import Board

# What may be out of order: a service of the stack, a connector with its tasks, the replication
# slot, a table that silver has stopped.
KINDS = ("service", "connector", "slot", "table")
Part = tuple[str, str]  # kind, name
# A part that has not worked yet is being started: for so long that is no incident.
START_S = 120.0


class IncidentCollector:
    """Opens and closes incidents by what the board and the ledger say."""

    name = "incidents"
    period_s = 10.0
    share = 0.0002

    def __init__(
        self,
        stopped_tables: Callable[[], Mapping[str, datetime]],
        board: Board,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stopped_tables = stopped_tables
        self._board = board
        self._clock = clock
        self._open: dict[Part, float] = {}
        self._begun: Counter[str] = Counter()
        self._starting: dict[Part, float] = {}
        self._worked: set[Part] = set()

    def collect(self) -> None:
        now = self._clock()
        broken = dict(self._broken(now))
        for part, since in broken.items():
            # A table may have gone on and been stopped again between two looks.
            if part not in self._open or (part[0] == "table" and since > self._open[part]):
                self._begun[part[0]] += 1
                self._open[part] = since
        self._open = {part: since for part, since in self._open.items() if part in broken}
        oldest = dict.fromkeys(KINDS, now)
        for (kind, _), since in self._open.items():
            oldest[kind] = min(oldest[kind], since)
        count = Counter(kind for kind, _ in self._open)
        board = self._board
        board.replace("headwater_incidents_open", {(k,): float(count[k]) for k in KINDS})
        board.replace("headwater_incidents", {(k,): float(self._begun[k]) for k in KINDS})
        board.replace("headwater_incident_seconds", {(k,): now - oldest[k] for k in KINDS})

    def _broken(self, now: float) -> Iterator[tuple[Part, float]]:
        """Parts that are out of order and since when: of most it is known by the first look only."""
        for part, works in self._parts():
            if works:
                self._worked.add(part)
            elif part in self._worked or now - self._starting.setdefault(part, now) >= START_S:
                yield part, now
        for table, since in self._stopped_tables().items():
            yield ("table", table), since.timestamp()

    def _parts(self) -> Iterator[tuple[Part, bool]]:
        """Each part that the board tells of, and whether it works."""
        families = {
            "service": "service_up",
            "connector": "connector_running",
            "slot": "slot_active",
        }
        for kind, family in families.items():
            for labels, works in self._board.get(f"headwater_{family}").items():
                yield (kind, "".join(labels)), bool(works)

    def reset(self) -> None:
        """Nothing is kept open."""

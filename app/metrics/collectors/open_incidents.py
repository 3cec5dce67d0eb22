"""Incidents: from the first observation that a part does not work until it works again.

This collector asks no part: it uses the values of the other collectors and the ledger. What begins
and ends between two observations is not seen; restarts of services have a metric of their own.
Incidents are kept in the lake (`ops/incidents`), so that a restarted exporter knows the open ones.
Incidents that other processes record there are counted under kinds of their own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from deltalake.exceptions import DeltaError

from app.metrics.board import Board
from spark_streaming.ops.incident_rows import OPEN, Incident
from spark_streaming.ops.incident_table import IncidentLog

# Parts that may fail: a service of the stack, a connector with its tasks, the replication slot,
# a table that silver has stopped.
KINDS = ("service", "connector", "slot", "table")
# Incidents that other processes record: events are missing between two positions or in a transaction.
OTHERS = ("gap", "counts_short")
Part = tuple[str, str]  # kind, name
# A part that has never worked is starting; it becomes an incident only after this time.
START_S = 120.0


class IncidentCollector:
    """Opens and closes incidents by the values on the board and the ledger."""

    name = "incidents"
    period_s = 10.0
    share = 0.0002

    def __init__(
        self,
        stopped_tables: Callable[[], Mapping[str, datetime]],
        board: Board,
        log: IncidentLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stopped_tables = stopped_tables
        self._board = board
        self._log = log
        self._clock = clock
        self._began = clock()
        self._resumed = False  # whether it has read the incidents left open by an earlier process
        self._others: set[str] = set()  # counted incidents of other processes
        self._open: dict[Part, float] = {}
        self._begun: Counter[str] = Counter()
        self._starting: dict[Part, float] = {}
        self._worked: set[Part] = set()

    def collect(self) -> None:
        now = self._clock()
        recorded = self._recorded()
        parts = dict(self._parts())
        broken = dict(self._broken(parts, now))
        for part in [part for part in self._open if part not in broken]:
            if self._is_over(part, parts, now):
                self._end(part, recorded)
        for part, since in broken.items():
            # A table may have been resumed and stopped again between two observations.
            if part[0] == "table" and since > self._open.get(part, since):
                self._end(part, recorded)
            if part not in self._open:
                self._begun[part[0]] += 1
                self._open[part] = since
            cause = f"{part[0]} {part[1]} is out of order".strip()
            self._log.open_incident(*part, cause=cause, recurs=True)
        self._export(recorded, now)

    def _recorded(self) -> list[Incident]:
        """List the lake's open incidents; if it cannot be read, those known to this process."""
        try:
            self._log.refresh()
        except (DeltaError, OSError):
            return self._log.incidents(state=OPEN)  # a separate alert reports the object store
        found = self._log.incidents(state=OPEN)
        if not self._resumed:
            self._resumed = True
            for one in found:
                if one.kind in KINDS and (one.kind, one.name) not in self._open:
                    self._open[(one.kind, one.name)] = one.opened_at.timestamp()
                    self._begun[one.kind] += 1
        return found

    def _is_over(self, part: Part, parts: Mapping[Part, bool], now: float) -> bool:
        """Return whether an incident is over; after a start, a part may not have been observed yet."""
        return parts.get(part, part[0] == "table") or now - self._began >= START_S

    def _end(self, part: Part, recorded: list[Incident]) -> None:
        del self._open[part]
        for one in recorded:
            if (one.kind, one.name) == part:
                self._log.close_incident(one.id, "it works again")

    def _export(self, recorded: list[Incident], now: float) -> None:
        count = Counter(kind for kind, _ in self._open)
        oldest = dict.fromkeys([*KINDS, *OTHERS], now)
        for (kind, _), since in self._open.items():
            oldest[kind] = min(oldest[kind], since)
        for one in recorded:
            if one.kind in KINDS:
                continue
            count[one.kind] += 1
            oldest[one.kind] = min(oldest.get(one.kind, now), one.opened_at.timestamp())
            self._begun[one.kind] += one.id not in self._others
            self._others.add(one.id)
        board, begun = self._board, self._begun
        board.replace("headwater_incidents_open", {(k,): float(count[k]) for k in oldest})
        board.replace("headwater_incidents", {(k,): float(begun[k]) for k in oldest})
        board.replace("headwater_incident_seconds", {(k,): now - at for k, at in oldest.items()})

    def _broken(self, parts: Mapping[Part, bool], now: float) -> Iterator[tuple[Part, float]]:
        """Yield each failed part and when it failed; for most parts that is the first observation."""
        for part, works in parts.items():
            if works:
                self._worked.add(part)
            elif (
                part in self._worked
                or part in self._open
                or now - self._starting.setdefault(part, now) >= START_S
            ):
                yield part, now
        for table, since in self._stopped_tables().items():
            yield ("table", table), since.timestamp()

    def _parts(self) -> Iterator[tuple[Part, bool]]:
        """Yield each part that has a value on the board, and whether it works."""
        families = {
            "service": "service_up",
            "connector": "connector_running",
            "slot": "slot_active",
        }
        for kind, family in families.items():
            for labels, works in self._board.get(f"headwater_{family}").items():
                yield (kind, "".join(labels)), bool(works)

    def reset(self) -> None:
        """Do nothing: no connection is kept open."""

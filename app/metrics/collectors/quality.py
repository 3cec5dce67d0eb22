"""Data quality from the lake's `ops` tables: quarantine, verification, expectations.

A table that does not exist yet, or lacks a column that is named here, exports nothing.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from app.lake.table_follower import Follower
from app.metrics.board import Board
from spark_streaming.quarantine.quarantine import OPEN
from spark_streaming.storage.lake import EXPECTATIONS, QUARANTINE, Lake

VERIFICATION = "ops/verification"
RECENT_S = 900.0
# Separate alerts report rows that are missing because they are in quarantine.
EQUAL = ("equal", "explained")
_VERIFIED = ("table_name", "verified_at", "verdict", "missing", "extra", "differing")
_BROKEN = ("table_name", "rule", "action", "rows_broken", "found_at")


@dataclass(frozen=True)
class Verdict:
    """The result of a table's newest verification; `differences` counts rows."""

    at: datetime
    equal: bool
    differences: int


class QualityCollector:
    """Follows the tables and keeps the newest values."""

    name = "quality"
    period_s = 15.0
    share = 0.001

    def __init__(self, lake: Lake, board: Board, clock: Callable[[], float] = time.time) -> None:
        self._lake = lake
        self._board = board
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        lake = self._lake
        columns = ["table_name", "rule", "status"]
        self._quarantine = Follower(lake, QUARANTINE, columns, rereads=True)
        self._verification = Follower(lake, VERIFICATION, list(_VERIFIED))
        self._expectations = Follower(lake, EXPECTATIONS, list(_BROKEN))
        self._rows: Counter[tuple[str, ...]] = Counter()
        self._verdicts: dict[str, Verdict] = {}
        self._broken: dict[tuple[str, ...], deque[tuple[float, int]]] = {}

    def collect(self) -> None:
        rows, whole = self._quarantine.poll()
        if whole:
            self._rows.clear()
        for table, rule, status in values(rows, "table_name", "rule", "status"):
            # Keep a rule without open entries at 0.
            self._rows[(table, rule or "other")] += status == OPEN
        self._board.replace("headwater_quarantine_rows", self._rows)
        self._verify()
        self._expect()

    def _verify(self) -> None:
        rows, _ = self._verification.poll()
        for table, at, verdict, missing, extra, differing in values(rows, *_VERIFIED):
            known = self._verdicts.get(table)
            # A table that verification cannot compare is neither equal nor different.
            if verdict in (*EQUAL, "differs") and (known is None or at >= known.at):
                self._verdicts[table] = Verdict(at, verdict in EQUAL, missing + extra + differing)
        board, found = self._board, self._verdicts
        passed = {(name,): float(one.equal) for name, one in found.items()}
        differences = {(name,): float(one.differences) for name, one in found.items()}
        times = {(name,): one.at.timestamp() for name, one in found.items()}
        board.replace("headwater_verification_passed", passed)
        board.replace("headwater_verification_differences", differences)
        board.replace("headwater_verification_timestamp_seconds", times)

    def _expect(self) -> None:
        rows, whole = self._expectations.poll()
        if whole:
            self._broken.clear()
        since = self._clock() - RECENT_S
        for table, rule, action, count, at in values(rows, *_BROKEN):
            kept = self._broken.setdefault((table, rule, action), deque())
            if at.timestamp() >= since:
                kept.append((at.timestamp(), count))
        found = {}
        for labels, kept in self._broken.items():
            while kept and kept[0][0] < since:
                kept.popleft()
            # Keep a rule that was broken before at 0, so that its alert can end.
            found[labels] = float(sum(count for _, count in kept))
        self._board.replace("headwater_expectation_broken_rows", found)


def values(rows: pa.Table | None, *columns: str) -> list[tuple[Any, ...]]:
    """Return the rows' values of these columns; empty if one of the columns is missing."""
    if rows is None or not set(columns) <= set(rows.column_names):
        return []
    return list(zip(*(rows[column].to_pylist() for column in columns), strict=True))

"""Runs transactions at a set rate, through lost connections and conflicts, within limits."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, TimeoutError

from app.errors import HeadwaterError
from app.store.workload.pace import Pace

# The run ends if the database is unreachable for longer.
RECONNECT_LIMIT_S = 60.0
RECONNECT_PAUSE_S = (0.1, 2.0)
# One conflict with another writer is normal; this many in a row mean that something is wrong.
CONFLICTS_IN_A_ROW_MAX = 50


@dataclass(frozen=True)
class Transaction:
    """One committed transaction.

    Args:
        operation: its name.
        tables: the tables that it may have written.
        changes: rows inserted, updated or deleted.
        committed_at: this machine's clock, right after the commit returned.
    """

    operation: str
    tables: frozenset[str]
    changes: int
    committed_at: datetime


@dataclass
class Report:
    """What a run did; `rate` is the target and `achieved` the actual rate, changes/s."""

    rate: float
    seconds: float = 0.0
    transactions: int = 0
    changes: int = 0
    reconnects: int = 0
    conflicts: int = 0
    dropped_s: float = 0.0
    operations: Counter[str] = field(default_factory=Counter)

    @property
    def achieved(self) -> float:
        return self.changes / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, object]:
        return {
            "transactions": self.transactions,
            "changes": self.changes,
            "seconds": round(self.seconds, 3),
            "rate": self.rate,
            "achieved": round(self.achieved, 2),
            "dropped_s": round(self.dropped_s, 3),
            "reconnects": self.reconnects,
            "conflicts": self.conflicts,
            "operations": dict(sorted(self.operations.items())),
        }


def drive(
    step: Callable[[], Transaction],
    *,
    rate: float,
    seconds: float | None = None,
    changes_max: int | None = None,
    stop: Event | None = None,
    watch: Callable[[Transaction, Report], None] | None = None,
    reconnect_limit_s: float = RECONNECT_LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Call `step` at `rate` changes a second until the time, the number or `stop` ends it.

    After a lost connection it waits and reconnects. It does not repeat the interrupted
    transaction, because that may have been committed. A conflict with another writer (a deadlock, a deleted
    row) skips that transaction.

    Args:
        step: does one transaction and commits it.
        rate: row changes a second; 0 for as fast as it goes.
        seconds: how long; None for until `stop`.
        changes_max: end after at least this many row changes; None for no such end.
        stop: set it to end the run after the transaction under way.
        watch: called after each transaction.
    Raises: HeadwaterError if the database stays away, or where every transaction conflicts.
    """
    stop = stop or Event()
    report = Report(rate)
    pace = Pace(rate, clock)
    started = clock()
    away_since: float | None = None
    conflicts = 0

    def finished() -> bool:
        report.seconds = clock() - started
        report.dropped_s = pace.dropped_s
        late = seconds is not None and report.seconds >= seconds
        return late or (changes_max is not None and report.changes >= changes_max)

    while not (stop.is_set() or finished()):
        wait_s = pace.wait_s()
        if wait_s > 0:
            left_s = wait_s if seconds is None else min(wait_s, seconds - report.seconds)
            stop.wait(max(left_s, 0.0))
            continue
        try:
            done = step()
        except (DBAPIError, TimeoutError) as error:
            if _is_conflict(error):
                report.conflicts += 1
                conflicts += 1
                _check_conflicts(conflicts, error)
                continue
            if not _is_away(error):
                raise
            away_since = clock() if away_since is None else away_since
            report.reconnects += 1
            _check_away(clock() - away_since, reconnect_limit_s, error)
            stop.wait(_pause_s(clock() - away_since))
            continue
        away_since, conflicts = None, 0
        report.transactions += 1
        report.changes += done.changes
        report.operations[done.operation] += 1
        pace.spend(done.changes)
        if watch is not None:
            watch(done, report)
    return report


class PacedWorkload(ABC):
    """Transactions at `rate` row changes a second; 0 for as fast as it goes."""

    rate: float

    @abstractmethod
    def step(self) -> Transaction:
        """Do one transaction and commit it."""

    def run(
        self,
        seconds: float | None = None,
        stop: Event | None = None,
        *,
        changes_max: int | None = None,
        watch: Callable[[Transaction, Report], None] | None = None,
    ) -> Report:
        """Do transactions at the set rate until an end comes; see `drive`."""
        return drive(
            self.step,
            rate=self.rate,
            seconds=seconds,
            changes_max=changes_max,
            stop=stop,
            watch=watch,
        )


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _is_conflict(error: Exception) -> bool:
    # 40001 serialization, 40P01 deadlock, 55P03 lock not available.
    return isinstance(error, IntegrityError) or _sqlstate(error) in ("40001", "40P01", "55P03")


def _is_away(error: Exception) -> bool:
    if isinstance(error, TimeoutError):  # no connection was free in the pool
        return True
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # Class 08 connection, 57P0x shutdown and start; without a code: never connected.
    state = _sqlstate(error)
    away = state.startswith(("08", "57P")) or state == "53300"
    return lost or away or (isinstance(error, OperationalError) and not state)


def _pause_s(away_s: float) -> float:
    shortest_s, longest_s = RECONNECT_PAUSE_S
    return min(max(shortest_s, away_s / 4), longest_s)


def _check_away(away_s: float, limit_s: float, error: Exception) -> None:
    if away_s > limit_s:
        raise HeadwaterError(
            f"Postgres stayed away for more than {limit_s:.0f} s",
            detail=first_line(error),
            hint="see whether it runs: `./headwater status postgres`",
        ) from error


def _check_conflicts(conflicts: int, error: Exception) -> None:
    if conflicts >= CONFLICTS_IN_A_ROW_MAX:
        raise HeadwaterError(
            f"{conflicts} transactions in a row were in conflict with the store's rows",
            detail=first_line(error),
            hint="another program may hold locks, or have added constraints to the store's tables",
        ) from error


def first_line(error: Exception) -> str:
    """The database's own message, one line, without statement and values."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__

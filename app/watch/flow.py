"""Tracks changes on their way: which hops have shown them, and when."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from app.hops import BY_NAME, OBSERVED
from spark_streaming.contract.lsn import Lsn, lsn_text

GIVE_UP_S = 60.0
# A time that the event itself carries: it is shown, but the watch does not wait for it.
DEBEZIUM = "debezium"
_OPS = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate"}


@dataclass
class Change:
    """One event on its way.

    Args:
        committed_at: the commit in Unix seconds, by the source's clock.
        arrived: when it was read from Kafka, in Unix seconds by this machine's clock, which also
            gives the times in the ledger.
        debezium_ms: milliseconds from the source's commit until Debezium had it; None if the event
        has no time.
        seen: hop → milliseconds since the source's commit.
        where: hop → the place at that hop.
        merged_at: the time of a batch that merged it, once silver has shown the batch.
    """

    topic: str
    partition: int
    offset: int
    table: str
    op: str
    key: str
    lsn: Lsn
    committed_at: float
    arrived: float
    transaction: int | None = None
    debezium_ms: int | None = None
    seen: dict[str, int] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    merged_at: datetime | None = None

    @property
    def event(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    def as_row(self) -> dict[str, Any]:
        """Return the values of `watch.FIELDS`; None for hops that have not shown it."""
        return self._facts() | {f"{hop}_ms": self.seen.get(hop) for hop in OBSERVED}

    def as_hop(self, hop: str, passed_over: int) -> dict[str, Any]:
        """Return the values of `watch.HOP_FIELDS` for a hop that has shown it."""
        return self._facts() | {
            "transaction": self.transaction,
            "event": self.event,
            "hop": hop,
            "ms": self.seen[hop],
            "passed_over": passed_over,
            "where": self.where.get(hop, ""),
        }

    def _facts(self) -> dict[str, Any]:
        moment = datetime.fromtimestamp(self.committed_at, timezone.utc)
        return {
            "time": moment.isoformat(timespec="milliseconds"),
            "table": self.table,
            "op": _OPS.get(self.op, self.op),
            "key": self.key,
            "lsn": lsn_text(self.lsn),
        }


class Pending:
    """The changes that some hop has not shown yet; the observers' threads share this object.

    Args:
        on_seen: called at once when a hop has shown a change; never by two threads together.
    """

    def __init__(self, on_seen: Callable[[Change, str], None]) -> None:
        self._on_seen = on_seen
        self._changes: OrderedDict[str, Change] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, change: Change) -> None:
        """Add a change that Kafka has just shown."""
        with self._lock:
            if change.debezium_ms is not None:
                change.seen[DEBEZIUM] = change.debezium_ms
                self._on_seen(change, DEBEZIUM)
            self._changes[change.event] = change
            self.mark(change, "kafka", change.event)

    def mark(self, change: Change, hop: str, where: str) -> None:
        """Record that a hop has shown a change now."""
        with self._lock:
            if hop not in change.seen:
                change.seen[hop] = round((time.time() - change.committed_at) * 1_000)
                change.where[hop] = where
                self._on_seen(change, hop)

    def waiting(self, hop: str) -> list[Change]:
        """List the changes that this hop has not shown but the previous hop, if any, has."""
        after = BY_NAME[hop].after
        with self._lock:
            return [
                change
                for change in self._changes.values()
                if hop not in change.seen and (not after or after in change.seen)
            ]

    def oldest(self) -> Change | None:
        """Return the change that has waited longest; None if none waits."""
        with self._lock:
            return next(iter(self._changes.values()), None)

    def finished(self) -> list[Change]:
        """Remove and return the changes that all hops have shown, or that are older than GIVE_UP_S."""
        now = time.time()
        with self._lock:
            done = [
                change
                for change in self._changes.values()
                if all(hop in change.seen for hop in OBSERVED) or now - change.arrived > GIVE_UP_S
            ]
            for change in done:
                del self._changes[change.event]
        return done

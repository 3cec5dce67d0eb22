"""Changes on their way: which hops have shown them, and when."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from app.lake.hops import HOPS
from spark_streaming.position import lsn_text

GIVE_UP_S = 60.0
# In the event itself, and before it can be seen: told, and waited for by nobody.
DEBEZIUM = "debezium"
_OPS = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate"}


@dataclass
class Change:
    """One event on its way.

    Args:
        arrived: when it was read from Kafka, in Unix seconds by this machine's clock, as the
            times of the ledger are; `committed_at` is by the source's.
        debezium_ms: from the source's commit until Debezium had it, by the event; None: not told.
        seen: hop → milliseconds since the source's commit.
        where: hop → at what place.
        merged_at: of a batch that has it, once silver has shown that.
    """

    topic: str
    partition: int
    offset: int
    table: str
    op: str
    key: str
    lsn: int
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
        """The row that is printed, with the names of `watch.FIELDS`; None where not seen."""
        return self._facts() | {f"{hop}_ms": self.seen.get(hop) for hop in HOPS}

    def as_hop(self, hop: str, passed_over: int) -> dict[str, Any]:
        """One hop that has shown it, with the names of `watch.HOP_FIELDS`."""
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
    """The changes that some hop has not shown yet; shared by the threads that observe the hops.

    Args:
        on_seen: called when a hop has shown a change, at once; never by two threads together.
    """

    def __init__(self, on_seen: Callable[[Change, str], None]) -> None:
        self._on_seen = on_seen
        self._changes: OrderedDict[str, Change] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, change: Change) -> None:
        """Take a change that Kafka has just shown."""
        with self._lock:
            if change.debezium_ms is not None:
                change.seen[DEBEZIUM] = change.debezium_ms
                self._on_seen(change, DEBEZIUM)
            self._changes[change.event] = change
            self.mark(change, "kafka", change.event)

    def mark(self, change: Change, hop: str, where: str) -> None:
        """A hop has shown a change, now."""
        with self._lock:
            if hop not in change.seen:
                change.seen[hop] = round((time.time() - change.committed_at) * 1_000)
                change.where[hop] = where
                self._on_seen(change, hop)

    def waiting(self, hop: str) -> list[Change]:
        """What this hop has not shown; of Trino's only what silver has."""
        with self._lock:
            return [
                change
                for change in self._changes.values()
                if hop not in change.seen and (hop != "trino" or "silver" in change.seen)
            ]

    def oldest(self) -> Change | None:
        """The one that waits longest."""
        with self._lock:
            return next(iter(self._changes.values()), None)

    def finished(self) -> list[Change]:
        """Take out those that all hops have shown, and those nobody waits for any more."""
        now = time.time()
        with self._lock:
            done = [
                change
                for change in self._changes.values()
                if all(hop in change.seen for hop in HOPS) or now - change.arrived > GIVE_UP_S
            ]
            for change in done:
                del self._changes[change.event]
        return done

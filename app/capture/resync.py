"""Requests resyncs, and reads their progress: rows of the signal table.

A resync reads a captured table from the source into the running stream, and removes rows that
silver has but the source does not. `capture` carries it out (`resyncing.py`), one table at a time.
Each table has a row `resync-<oid>`, which survives restarts. Each request gets a number; it is
fulfilled once `finished` reaches that number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from app.connectors.capture_record import on_signal_table
from app.source.database import Connection
from app.source.source_tables import Names, SourceTable
from spark_streaming.contract.lsn import LOG_START, Lsn

_PREFIX = "resync-"
_LOCK_KEY = 0x4857  # the key of Headwater's advisory locks
_LOG = "log"  # Debezium writes such a signal into its log, no more
WAITING, READING, DONE, FAILED = "waiting", "reading", "done", "failed"


@dataclass(frozen=True)
class Resync:
    """A table's newest resync.

    Args:
        oid: the table's oid; a table that is made again under the same name has another one.
        state: waiting | reading | done | failed.
        reason: why it was requested, as text.
        incidents: identifiers of the incidents that it closes.
        asked: number of the newest request.
        finished: number of the newest request that was fulfilled, or failed.
        reading: number of the request that is being fulfilled.
        kind: incremental | blocking | bag; empty before it is read.
        below_lsn: at the end, silver removes the rows that are older than this position.
        applied_lsn: `below_lsn` of the newest resync that ended.
        mark: identifier of the signal.
        since: offset in the notifications' topic when the signal was given.
        shape: the table's file at that time, to notice a TRUNCATE.
        reader: process that read the slot at that time.
        rows, rows_total: rows read so far, and an estimate of all; None: not known.
        asked_at, began_at, ended_at: unix times in seconds.
        ends: partition → offset of the event that ended it; once silver is past these offsets, it
        has applied the resync.
        tries: number of attempts that did not end.
        why: why it waits, or why it failed.
    """

    oid: int
    schema: str
    name: str
    state: str = WAITING
    reason: str = ""
    incidents: tuple[str, ...] = ()
    asked: int = 1
    finished: int = 0
    reading: int = 0
    kind: str = ""
    below_lsn: Lsn = LOG_START
    applied_lsn: Lsn = LOG_START
    mark: str = ""
    since: int = 0
    shape: str = ""
    reader: int | None = None
    rows: int = 0
    rows_total: int | None = None
    asked_at: float = 0.0
    began_at: float = 0.0
    ended_at: float = 0.0
    ends: Mapping[str, int] = field(default_factory=dict)
    tries: int = 0
    why: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def is_open(self) -> bool:
        """Whether it is waiting or under way."""
        return self.state in (WAITING, READING)

    @property
    def percent(self) -> float | None:
        """Share of the rows that is read; None if their number is not known."""
        if self.state == DONE:
            return 100.0
        if not self.rows_total:
            return None
        return min(99.9, 100.0 * self.rows / self.rows_total)

    def rows_per_s(self, now: float) -> float:
        """Return the rows read per second since the resync began."""
        seconds = (self.ended_at or now) - self.began_at
        return self.rows / seconds if self.began_at and seconds > 0 else 0.0

    def eta_s(self, now: float) -> float | None:
        """Estimate the seconds until all is read, at the rate so far; None if not known."""
        rate = self.rows_per_s(now)
        if self.state != READING or not self.rows_total or rate <= 0:
            return None
        return max(0.0, (self.rows_total - self.rows) / rate)


def request(
    connection: Connection,
    names: Names,
    tables: Sequence[SourceTable],
    *,
    reason: str,
    incident: str | None = None,
) -> dict[int, int]:
    """Request resyncs; a table that already waits for one gets no second.

    A table that is being read is read again afterwards, because the reason may be newer than the
    read.

    Args:
        connection: a session of the signal table's owner, which commits each statement.
        tables: captured tables, read at one moment.
        incident: identifier of the incident that the resyncs close.
    Returns: oid → number of the request that fulfils this one.
    """
    numbers = {}
    for table in tables:

        def asked(known: Resync | None, table: SourceTable = table) -> Resync:
            old = known or Resync(table.oid, table.schema, table.name, asked=0, state=DONE)
            old = replace(old, schema=table.schema, name=table.name)
            # A failed one has repaired nothing yet.
            previous = old.incidents if old.is_open or old.state == FAILED else ()
            incidents = tuple(dict.fromkeys([*previous, *([incident] if incident else [])]))
            if old.state == WAITING:
                return replace(old, incidents=incidents)
            if old.state == READING and old.asked > old.reading:
                return replace(old, incidents=incidents)
            new = replace(old, asked=old.asked + 1, reason=reason, incidents=incidents)
            new = replace(new, asked_at=time.time())
            return new if old.state == READING else replace(new, state=WAITING, tries=0, why="")

        numbers[table.oid] = change(connection, names, table.oid, asked).asked
    return numbers


def progress(connection: Connection, names: Names) -> list[Resync]:
    """Read the newest resync of each table: those under way first, then in the order of requests."""
    rows = connection.execute(
        on_signal_table(names, "SELECT data FROM {signal} WHERE starts_with(id, %s)"), [_PREFIX]
    )
    found = [_parsed(data) for (data,) in rows]
    return sorted(found, key=lambda one: (one.state != READING, not one.is_open, one.asked_at))


def change(
    connection: Connection, names: Names, oid: int, to: Callable[[Resync | None], Resync]
) -> Resync:
    """Change a table's resync in one transaction, even while others request one."""
    key = f"{_PREFIX}{oid}"
    with connection.transaction():
        # The lock serializes `request` and `capture`.
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_KEY, oid % (1 << 31)])
        row = connection.execute(
            on_signal_table(names, "SELECT data FROM {signal} WHERE id = %s"), [key]
        ).fetchone()
        new = to(_parsed(row[0]) if row else None)
        connection.execute(
            on_signal_table(
                names,
                "INSERT INTO {signal} (id, type, data) VALUES (%s, %s, %s)"
                " ON CONFLICT (id) DO UPDATE SET data = excluded.data",
            ),
            [key, _LOG, _written(new)],
        )
    return new


def drop(connection: Connection, names: Names, oid: int) -> None:
    """Forget a table that is not captured any more."""
    connection.execute(
        on_signal_table(names, "DELETE FROM {signal} WHERE id = %s"),
        [f"{_PREFIX}{oid}"],
    )


def _written(one: Resync) -> str:
    return json.dumps({"message": f"resync of {one}: {one.state}", "resync": asdict(one)})


def _parsed(data: str) -> Resync:
    found: dict[str, Any] = json.loads(data)["resync"]
    known = {name: found[name] for name in Resync.__dataclass_fields__ if name in found}
    return Resync(**{**known, "incidents": tuple(known.get("incidents", ()))})


def request_unless_blocking(
    connection: Connection, names: Names, table: SourceTable, reason: str, may_block_writers: bool
) -> str:
    """Request a resync that no user asked for, unless it blocks writers and that is not allowed.

    Returns: a message for the user.
    """
    if not table.has_key and not may_block_writers:
        return (
            f"{table} has to be read again: {reason}; its writers would wait meanwhile\n"
            f"  hint: ./headwater resync {table}"
        )
    request(connection, names, [table], reason=reason)
    return f"{table} will be read again: {reason}"

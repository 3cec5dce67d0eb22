"""Defines a row of `ops/incidents`: one event of an incident, with all that is known by then.

The newest row of an incident (greatest `at`) therefore says everything about it; the previous ones
are its history. Rows are only appended, by any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from spark_streaming.contract.lsn import Lsn

OPEN, CLOSED = "open", "closed"
TEXT_CHARS_MAX = 2_000
TABLES_MAX = 1_000
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("at", _TIME),
        ("state", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("tables", pa.list_(pa.string())),
        ("lsn_from", pa.int64()),
        ("lsn_to", pa.int64()),
        ("cause", pa.string()),
        ("how_closed", pa.string()),
        ("opened_at", _TIME),
    ]
)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Incident:
    """One incident after one of its events.

    Args:
        id: see `natural_id` and `recurring_id`.
        at: when the event was recorded; greater than that of the events before it.
        name: the natural key, which distinguishes incidents of one kind: e.g. a slot and a position, or a service.
        tables: tables of the source, `schema.table`; empty if it concerns none, or all.
        lsn_from, lsn_to: WAL byte positions between which something is or was missing; None if they are unknown
            or do not apply.
        how_closed: None while it is open.
    """

    id: str
    at: datetime
    state: str
    kind: str
    name: str
    tables: tuple[str, ...]
    lsn_from: Lsn | None
    lsn_to: Lsn | None
    cause: str
    how_closed: str | None
    opened_at: datetime

    @property
    def open(self) -> bool:
        return self.state == OPEN

    def after(self, previous: Incident | None) -> Incident:
        """This event with an `at` after that of `previous`, even if two clocks differ."""
        if previous is None or self.at > previous.at:
            return self
        return replace(self, at=previous.at + _TICK)

    def row(self) -> dict[str, Any]:
        """The row of SCHEMA; long texts and lists are cut."""
        listed = list(self.tables[:TABLES_MAX])
        if len(self.tables) > TABLES_MAX:
            listed.append(f"and {len(self.tables) - TABLES_MAX} more")
        cut = {"tables": listed, "cause": self.cause[:TEXT_CHARS_MAX]}
        if self.how_closed is not None:
            cut["how_closed"] = self.how_closed[:TEXT_CHARS_MAX]
        return {name: getattr(self, name) for name in SCHEMA.names} | cut


def natural_id(kind: str, name: str) -> str:
    """The identifier of an incident that happens once: each finding of it gives the same."""
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def recurring_id(kind: str, name: str, opened_at: datetime) -> str:
    """The identifier of an outage that may come again; each has a beginning of its own."""
    return f"{natural_id(kind, name)}-{opened_at:%Y%m%dT%H%M%S.%f}"


def newest(rows: Iterable[dict[str, Any]]) -> dict[str, Incident]:
    """Identifier → incident after its newest event."""
    found: dict[str, Incident] = {}
    for row in rows:
        known = found.get(row["id"])
        if known is None or row["at"] > known.at:
            found[row["id"]] = Incident(**{**row, "tables": tuple(row["tables"] or ())})
    return found


def kept_ids(incidents: Sequence[Incident], *, since: datetime, closed_max: int) -> set[str]:
    """The incidents to keep: the open ones, and the newest of those closed since `since`."""
    closed = sorted(
        (one for one in incidents if not one.open and one.at >= since),
        key=lambda one: one.at,
        reverse=True,
    )
    return {one.id for one in incidents if one.open} | {one.id for one in closed[:closed_max]}

"""Sums the stack's own questions: one row for each minute, account and program."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from spark_streaming.streams.audit.query_events import Ended
from spark_streaming.streams.audit.query_numbers import NumberRanges, Series
from spark_streaming.streams.stream_event import Event

# User and program together: the queries of a person who claims only one of the names are recorded separately. The
# programs name themselves in app/catalog, app/metrics and beside this file.
OWN = frozenset(
    {
        ("registrar", "headwater-registrar"),
        ("headwater", "headwater-metrics"),
        ("headwater", "headwater-audit"),
        # Where each part has an account of its own (`access = "signed"`):
        ("exporter", "headwater-metrics"),
        ("audit", "headwater-audit"),
    }
)
_ADDED = ("rows", "bytes", "rows_read", "bytes_read", "cpu_ms", "wall_ms", "queries", "failed")


@dataclass
class _Sum:
    minute: dt.datetime
    first_id: str
    values: dict[str, Any]
    numbers: NumberRanges = field(default_factory=NumberRanges)
    tables: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)


class QuestionSums:
    """What has been added since the last `taken`."""

    def __init__(self) -> None:
        self._sums: dict[tuple[object, ...], _Sum] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, question: Ended, series: Series, number: int) -> None:
        """Add a question to its minute's sum."""
        minute = question.time.replace(second=0, microsecond=0)
        user, source = question.account
        found = self._sums.setdefault(
            (minute, user, source, series),
            _Sum(
                minute,
                question.query_id,
                {
                    "kind": "sum",
                    "user_name": user,
                    "source": source,
                    "series": str(series),
                    "client_address": question.values["client_address"],
                },
            ),
        )
        for name in _ADDED:
            found.values[name] = found.values.get(name, 0) + (question.values[name] or 0)
        found.values["ended_at"] = max(
            found.values.get("ended_at", question.values["ended_at"]), question.values["ended_at"]
        )
        found.values["error"] = question.values["error"] or found.values.get("error")
        found.numbers.add(number, number)
        found.tables.update(question.tables)
        found.columns.update(question.columns)

    def taken(self) -> list[Event]:
        """Return the rows of all sums, and begin again."""
        rows = [
            Event(
                f"sum:{one.first_id}",
                one.minute,
                {
                    **one.values,
                    "numbers": str(one.numbers),
                    "tables": ", ".join(sorted(one.tables)) or None,
                    "columns": ", ".join(sorted(one.columns)) or None,
                },
            )
            for one in self._sums.values()
        ]
        self._sums.clear()
        return rows

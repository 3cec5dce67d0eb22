"""The Delta table `ops/job_runs`: the result of each run of a job, and of each attempt of its tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from app.jobs.dagster_client import Run
from app.jobs.run_records import Record
from spark_streaming.storage.small_table import SmallTable

PATH = "ops/job_runs"
RETENTION = timedelta(days=90)
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("job", pa.string()),
        ("task", pa.string()),
        ("kind", pa.string()),
        ("attempt", pa.int64()),
        ("state", pa.string()),
        ("started_by", pa.string()),
        ("queued_at", _TIME),
        ("started_at", _TIME),
        ("ended_at", _TIME),
        ("cpu_seconds", pa.float64()),
        ("memory_mb", pa.int64()),
        ("rows_written", pa.int64()),
        ("read_versions", pa.string()),
        ("reason", pa.string()),
        ("written", pa.string()),
    ]
)


def rows_of(run: Run, reason: str, attempts: Iterable[Record]) -> list[dict[str, Any]]:
    """Return a run's rows: one for the whole run, whose `task` is NULL, and one for each attempt."""
    common = {"run_id": run.id, "job": run.job, "started_by": run.by, "queued_at": run.created}
    attempts = list(attempts)
    whole = {
        **common,
        "state": run.state,
        "started_at": run.started,
        "ended_at": run.ended,
        "cpu_seconds": round(sum(one.cpu_s for one in attempts), 2),
        "memory_mb": max((one.memory_mb for one in attempts), default=0),
        "rows_written": sum(one.rows_written or 0 for one in attempts),
        "reason": reason or None,
    }
    return [whole, *({**common, **_attempt_row(one)} for one in attempts)]


def _attempt_row(one: Record) -> dict[str, Any]:
    return {
        "task": one.task,
        "kind": one.kind,
        "attempt": one.attempt,
        "state": one.state,
        "started_at": datetime.fromisoformat(one.started),
        "ended_at": datetime.fromisoformat(one.ended) if one.ended else None,
        "cpu_seconds": one.cpu_s,
        "memory_mb": one.memory_mb,
        "rows_written": one.rows_written,
        "read_versions": json.dumps(one.read_versions) if one.read_versions else None,
        "reason": one.reason or None,
        "written": json.dumps(one.written) if one.written else None,
    }


class JobRunsTable:
    """The Delta table; any number of writers may append.

    Args:
        lake: the lake's addresses and storage options (`spark_streaming.storage.lake.Lake`).
    """

    def __init__(self, lake: Any) -> None:
        self._table = SmallTable(lake, PATH, SCHEMA)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Append the rows of runs that the table lacks. Returns: the number of rows written."""
        known = set(self._table.column("run_id"))
        new = [dict(row) for row in rows if row["run_id"] not in known]
        if new:
            found = pa.Table.from_pylist(new, schema=SCHEMA)
            self._table.append(found, time_column="queued_at", retention=RETENTION)
        return len(new)

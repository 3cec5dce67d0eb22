"""Counts from the ledger how many events of each table silver has merged since it was begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.lake.lakehouse import Lakehouse
from spark_streaming.ops.ledger import WHOLE_BATCH
from spark_streaming.ops.stopped import FAILING, RUNNING
from spark_streaming.storage.lake import LEDGER

_COLUMNS = ["query_id", "batch_id", "table_name", "merged_at", "rows_in", "state", "refusal"]


@dataclass
class Batch:
    """A batch: when it was merged, and its events by silver table."""

    at: datetime
    rows: Counter[str] = field(default_factory=Counter)


@dataclass
class Merged:
    """What silver has merged.

    Args:
        rows: silver table → its events, including those in quarantine.
        halted: silver table → its state if it merges nothing now (refused, stopped, resuming).
        batches: the batches in the order of their ends.
    """

    rows: Counter[str] = field(default_factory=Counter)
    halted: dict[str, str] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)

    def rate(self, tables: set[str]) -> float | None:
        """Return the events a second of these tables; None before there are two batches."""
        counted = [(one.at, sum(one.rows[name] for name in tables)) for one in self.batches]
        ends = [(at, count) for at, count in counted if count]
        if len(ends) < 2:
            return None
        seconds = (ends[-1][0] - ends[0][0]).total_seconds()
        # The time begins at the end of the first batch, whose events were merged before it.
        return sum(count for _, count in ends[1:]) / seconds if seconds > 0 else None


def merged(settings: Settings) -> Merged:
    """Sum up the ledger of a stack. Raises: DeltaError, OSError."""
    try:
        dataset = Lakehouse(settings).lake.table(LEDGER).to_pyarrow_dataset()
    except TableNotFoundError:
        return Merged()
    if not set(_COLUMNS) <= set(dataset.schema.names):  # made by a previous release
        return Merged()
    return summed(dataset.to_table(columns=_COLUMNS).sort_by("merged_at").to_pylist())


def summed(rows: Iterable[Mapping[str, Any]]) -> Merged:
    """Sum up ledger rows in the order of `merged_at`."""
    result, batches = Merged(), dict[tuple[str, int], Batch]()
    for row in rows:
        table = row["table_name"]
        if table == WHOLE_BATCH:
            continue
        count = row["rows_in"] or 0
        result.rows[table] += count
        batch = batches.setdefault((row["query_id"], row["batch_id"]), Batch(row["merged_at"]))
        batch.at = row["merged_at"]
        batch.rows[table] += count
        state = "refused" if row["refusal"] else row["state"] or RUNNING
        # A failed batch is repeated, so a failing table is not halted.
        if state in (RUNNING, FAILING):
            result.halted.pop(table, None)
        else:
            result.halted[table] = state
    result.batches = sorted(batches.values(), key=lambda one: one.at)
    return result

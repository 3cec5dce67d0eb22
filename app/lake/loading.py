"""How much of each table silver has taken in since it was begun, by the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deltalake.exceptions import TableNotFoundError

from app.lake.lakehouse import Lakehouse
from app.settings import Settings
from spark_streaming.lake import LEDGER
from spark_streaming.ledger import WHOLE_BATCH
from spark_streaming.stopped import FAILING, RUNNING

_COLUMNS = ["query_id", "batch_id", "table_name", "merged_at", "rows_in", "state", "refusal"]


@dataclass
class Batch:
    """When a batch was merged, and its events by silver table."""

    at: datetime
    rows: Counter[str] = field(default_factory=Counter)


@dataclass
class Merged:
    """What silver has taken in.

    Args:
        rows: silver table → events of it, those of quarantine too.
        halted: silver table → why it takes nothing in now (refused, stopped, resuming).
        batches: in the order of their ends.
    """

    rows: Counter[str] = field(default_factory=Counter)
    halted: dict[str, str] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)

    def rate(self, tables: set[str]) -> float | None:
        """Events a second of these tables; None before there are two batches to tell it by."""
        counted = [(one.at, sum(one.rows[name] for name in tables)) for one in self.batches]
        found = [(at, count) for at, count in counted if count]
        if len(found) < 2:
            return None
        seconds = (found[-1][0] - found[0][0]).total_seconds()
        # The first batch was worked on before the time that it is noted with.
        return sum(count for _, count in found[1:]) / seconds if seconds > 0 else None


def merged(settings: Settings) -> Merged:
    """The ledger of a stack, summed. Raises: DeltaError, OSError."""
    try:
        dataset = Lakehouse(settings).lake.table(LEDGER).to_pyarrow_dataset()
    except TableNotFoundError:
        return Merged()
    if not set(_COLUMNS) <= set(dataset.schema.names):  # made by an earlier release
        return Merged()
    return summed(dataset.to_table(columns=_COLUMNS).sort_by("merged_at").to_pylist())


def summed(rows: Iterable[Mapping[str, Any]]) -> Merged:
    """Ledger rows, in the order of `merged_at`, as what they come to."""
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
        # A batch that failed with it is repeated: it goes on.
        if state in (RUNNING, FAILING):
            result.halted.pop(table, None)
        else:
            result.halted[table] = state
    result.batches = sorted(batches.values(), key=lambda one: one.at)
    return result

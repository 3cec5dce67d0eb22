"""Tables that are behind the freshness target of their contract, read without Trino."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from deltalake.exceptions import TableNotFoundError

from app.lake.lakehouse import Lakehouse
from app.settings import Settings
from spark_streaming.lake import LEDGER
from spark_streaming.ledger import WHOLE_BATCH
from spark_streaming.stopped import RUNNING

# A source at rest shows itself by a heartbeat in 5 s: what is newer cannot be told from nothing.
HEARTBEAT_S = 5.0
_COLUMNS = ["table_name", "merged_at", "source_time", "state", "refusal", "freshness_targets"]


class Late(NamedTuple):
    """A table that misses its target; `behind_s` is None where it is not known or it is stopped."""

    table: str
    target_s: float
    behind_s: float | None
    state: str

    def told(self) -> str:
        """In a few words: `orders 42 s (target 5 s)`."""
        found = self.state if self.behind_s is None else f"{self.behind_s:.0f} s"
        return f"{self.table} {found} (target {self.target_s:g} s)"


def late_tables(settings: Settings) -> list[Late]:
    """The tables of a stack that miss their targets now. Raises: DeltaError, OSError."""
    try:
        dataset = Lakehouse(settings).lake.table(LEDGER).to_pyarrow_dataset()
    except TableNotFoundError:
        return []
    if not set(_COLUMNS) <= set(dataset.schema.names):  # made by an earlier release
        return []
    rows = dataset.to_table(columns=_COLUMNS).sort_by("merged_at").to_pylist()
    return late(rows, datetime.now(timezone.utc))


def late(rows: Iterable[Mapping[str, Any]], now: datetime) -> list[Late]:
    """The tables that miss their targets, by ledger rows in the order of `merged_at`.

    The same as `freshness_met` of the view `ops.freshness`.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    batch_time, targets = None, dict[str, float]()
    for row in rows:
        newest[row["table_name"]] = row
        if row["table_name"] == WHOLE_BATCH:
            batch_time = row["source_time"] or batch_time
            targets = json.loads(row["freshness_targets"] or "{}")
    found = []
    for table, target in sorted(targets.items()):
        if table not in newest:
            continue  # nothing of it has come yet
        row = newest[table]
        state = "refused" if row["refusal"] else row["state"] or RUNNING
        behind = (now - batch_time).total_seconds() if batch_time else None
        if state != RUNNING:
            found.append(Late(table, target, None, state))
        elif behind is None or behind > target + HEARTBEAT_S:
            found.append(Late(table, target, behind, state if behind is not None else "not known"))
    return found

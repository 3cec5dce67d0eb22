"""Finds tables that miss the freshness target of their contract, without Trino."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import pyarrow.compute as pc
from deltalake.exceptions import TableNotFoundError

from app.environment.settings import Settings
from app.lake.lakehouse import Lakehouse
from spark_streaming.ops.ledger import WHOLE_BATCH
from spark_streaming.ops.stopped import RUNNING
from spark_streaming.ops.whole_batches import COLUMNS, WholeBatches
from spark_streaming.storage.lake import LEDGER

# A source at rest sends a heartbeat every 5 s, so a delay below that is normal.
HEARTBEAT_S = 5.0
_COLUMNS = [
    "table_name", "merged_at", "source_time", "state", "refusal", "freshness_targets", *COLUMNS,
]  # fmt: skip


class Late(NamedTuple):
    """A table that misses its target; `behind_s` is None if it is not known or the table is stopped."""

    table: str
    target_s: float
    behind_s: float | None
    state: str

    def summary(self) -> str:
        """Return a few words: `orders 42 s (target 5 s)`."""
        behind = self.state if self.behind_s is None else f"{self.behind_s:.0f} s"
        return f"{self.table} {behind} (target {self.target_s:g} s)"


def late_tables(settings: Settings) -> list[Late]:
    """List the tables of a stack that miss their targets now. Raises: DeltaError, OSError."""
    try:
        dataset = Lakehouse(settings).lake.table(LEDGER).to_pyarrow_dataset()
    except TableNotFoundError:
        return []
    if not set(_COLUMNS) <= set(dataset.schema.names):  # made by a previous release
        return []
    rows = dataset.to_table(columns=_COLUMNS).sort_by("merged_at").to_pylist()
    return late(rows, datetime.now(timezone.utc))


def freshness(settings: Settings) -> tuple[float | None, dict[str, float]]:
    """Return silver's lag behind the source and the freshness targets by table, in seconds.

    The lag is None if it is not known; tables without a target are left out.
    Raises: DeltaError, OSError.
    """
    try:
        dataset = Lakehouse(settings).lake.table(LEDGER).to_pyarrow_dataset()
    except TableNotFoundError:
        return None, {}
    if not set(_COLUMNS) <= set(dataset.schema.names):  # made by a previous release
        return None, {}
    wanted = pc.field("table_name") == WHOLE_BATCH
    columns = ["merged_at", "source_time", "freshness_targets", *COLUMNS]
    rows = dataset.to_table(columns=columns, filter=wanted).sort_by("merged_at").to_pylist()
    time = WholeBatches(rows).time
    targets = json.loads(rows[-1]["freshness_targets"] or "{}") if rows else {}
    behind = (datetime.now(timezone.utc) - time).total_seconds() if time else None
    return behind, {str(table): float(target) for table, target in targets.items()}


def late(rows: Iterable[Mapping[str, Any]], now: datetime) -> list[Late]:
    """List the tables that miss their targets, from ledger rows in the order of `merged_at`.

    The view `ops.freshness` decides `freshness_met` in the same way.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    whole, targets = WholeBatches(), dict[str, float]()
    for row in rows:
        newest[row["table_name"]] = row
        if row["table_name"] == WHOLE_BATCH:
            whole.add(row)
            targets = json.loads(row["freshness_targets"] or "{}")
    batch_time = whole.time
    missed = []
    for table, target in sorted(targets.items()):
        if table not in newest:
            continue  # it has had no event yet
        row = newest[table]
        state = "refused" if row["refusal"] else row["state"] or RUNNING
        behind = (now - batch_time).total_seconds() if batch_time else None
        if state != RUNNING:
            missed.append(Late(table, target, None, state))
        elif behind is None or behind > target + HEARTBEAT_S:
            missed.append(Late(table, target, behind, state if behind is not None else "not known"))
    return missed

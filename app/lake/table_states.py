"""Lists silver's tables with state, freshness and quarantine, for `status --format json`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from app.environment.settings import Settings
from app.lake.freshness import freshness, late_tables
from app.lake.lakehouse import Lakehouse
from app.lake.quarantine_access import open_entries
from app.lake.stopped_tables import table_problems
from spark_streaming.ops.ledger import WHOLE_BATCH
from spark_streaming.ops.stopped import RUNNING


class TableState(NamedTuple):
    """One silver table.

    Args:
        state: running, refused, stopped, resuming or failing, as the ledger has it.
        reason: why it is not running; "" if it runs.
        hint: what to do then.
        tries: its failures in a row.
        merged_at: when its newest batch ended.
        behind_s: seconds since the source's time up to which silver is complete; None if that is
            not known, or the table does not run.
        target_s: the freshness target of its contract; None without one.
        late: whether it misses that target.
        quarantined: its open entries in quarantine.
    """

    table: str
    state: str
    reason: str
    hint: str
    tries: int
    merged_at: datetime
    behind_s: float | None
    target_s: float | None
    late: bool
    quarantined: int


def table_states(settings: Settings) -> list[TableState]:
    """List every table of which silver has had an event, by name. Raises: DeltaError, OSError."""
    entries = Lakehouse(settings).ledger()
    behind, targets = freshness(settings)
    late = {one.table for one in late_tables(settings)}
    troubles = {one.part: one for one in table_problems(entries.values())}
    quarantined = open_entries(settings)
    states = []
    for name in sorted(entries.keys() - {WHOLE_BATCH}):
        entry, trouble = entries[name], troubles.get(f"table {name}")
        states.append(
            TableState(
                name,
                entry.state,
                trouble.cause if trouble else "",
                trouble.hint if trouble else "",
                entry.tries,
                entry.merged_at.astimezone(timezone.utc),
                behind if entry.state == RUNNING else None,
                targets.get(name),
                name in late,
                quarantined.get(name, 0),
            )
        )
    return states

"""Many changes of a row in one batch become one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from spark_streaming.contract import Contract
from spark_streaming.envelope import Changes, Reject

Key = tuple[Any, ...]
Moved = Callable[[list[Key]], Mapping[Key, Mapping[str, Any]]]
Present = Callable[[list[Key]], Collection[Key]]


@dataclass(frozen=True)
class Folded:
    """One batch of one table, ready to merge.

    Args:
        rows: the contract's columns (silver names), then
            `_lsn` long, `_committed_at` timestamp (UTC) of the change that made the row;
            `_op` text: keyed tables `u` (upsert) or `d` (delete), at most one row per key;
            bags `i` (one more copy) or `d` (one copy less), netted inside the batch;
            `_guard_lsn` long: a keyed row changes an existing one only where
            `_guard_lsn >= target._lsn`;
            `_keep_<column>` bool, for each column that some row leaves as it is in silver.
        truncate_lsn: silver rows with a lower `_lsn` go, in the same commit; None: none.
        resnapshot_lsn: the same, because a snapshot of a whole bag began there.
        rejects: changes that could not be folded, with their reasons.
    """

    rows: pa.Table
    truncate_lsn: int | None = None
    resnapshot_lsn: int | None = None
    rejects: list[Reject] = field(default_factory=list)

    @property
    def keep_columns(self) -> list[str]:
        """The columns that have a `_keep_` flag."""
        return [name[6:] for name in self.rows.column_names if name.startswith("_keep_")]


def fold(
    changes: Changes | Sequence[Changes],
    contract: Contract,
    moved: Moved,
    present: Present | None = None,
) -> Folded:
    """Fold one table's changes."""
    raise NotImplementedError

"""Many changes of a row in one batch become one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from spark_streaming.bag import fold_bag
from spark_streaming.contract import Contract
from spark_streaming.events import Change, Changes, RawKey, Reject
from spark_streaming.rows import (
    Cell,
    HeldColumns,
    InSilver,
    Origin,
    SilverKey,
    build_rows,
    in_stream_order,
    truncation,
)

Moved = Callable[[list[SilverKey]], Mapping[SilverKey, Mapping[str, Any]]]
Present = Callable[[list[SilverKey]], Collection[SilverKey]]


@dataclass(frozen=True)
class Folded:
    """One batch of one table, ready to merge.

    Args:
        rows: the contract's columns (silver names), then
            `_lsn` long, `_committed_at` timestamp (UTC) of the change that made the row;
            `_op` text: keyed tables `u` (upsert) or `d` (delete, key columns only), at most one
            row per key; bags `i` (one more copy) or `d` (one copy less), netted in the batch;
            `_guard_lsn` long: a keyed row changes an existing one only where
            `_guard_lsn >= target._lsn`;
            `_keep_<column>` bool, for each column that some row leaves as it is in silver. Such
            a row must not be inserted where silver has no row of its key.
        truncate_lsn: silver rows with a lower `_lsn` go, in the same commit; None: none.
        resnapshot_lsn: the same, because a snapshot of a whole bag began there, or the first one
            of a keyed table anew.
        rejects: changes that could not be folded, with their reasons.
        origin: which events each row comes from.
    """

    rows: pa.Table
    truncate_lsn: int | None = None
    resnapshot_lsn: int | None = None
    rejects: list[Reject] = field(default_factory=list)
    origin: Origin | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to merge."""
        return not len(self.rows) and self.truncate_lsn is None and self.resnapshot_lsn is None

    @property
    def keep_columns(self) -> list[str]:
        """The columns that have a `_keep_` flag."""
        return [name[6:] for name in self.rows.column_names if name.startswith("_keep_")]


def fold(
    changes: Changes,
    contract: Contract,
    moved: Moved,
    present: Present | None = None,
    held: HeldColumns | None = None,
) -> Folded:
    """Fold one table's changes into what one merge applies.

    Args:
        changes: of `decode`, all of one batch.
        contract: the one that they were decoded with.
        moved: reads silver as it was before this batch: for keys (tuples of Python values in
            the contract's key order) the rows found, as column -> value. Asked only for rows
            whose key changed while a large value did not.
        present: which of these keys silver has. Asked only for rows with a `_keep_` flag; those
            without a row in silver are rejected. None: the caller looks after them.
        held: values that are in quarantine and not in silver: a change that would take one of
            them from silver is rejected.
    """
    if contract.is_bag:
        rows, truncate_lsn, resnapshot_lsn, origin = fold_bag(changes, contract)
        return Folded(rows, truncate_lsn, resnapshot_lsn, [], origin)
    truncate = truncation(changes.changes)
    state = _Rows(changes)
    for change in in_stream_order(changes.changes):
        if truncate is None or not truncate.removes(change):
            state.apply(change)
    rejects = list(state.rejects)
    rows = build_rows(
        changes, contract, state.latest, state.cells, moved, present, rejects, held or {}
    )
    finals = list(state.latest.values())
    origin = Origin(finals, [change.after for change in finals], state.cells)
    truncate_lsn = truncate.lsn if truncate else None
    return Folded(rows, truncate_lsn, changes.first_snapshot_lsn, rejects, origin)


class _Rows:
    """The rows that a batch touches, as far as its changes tell."""

    def __init__(self, changes: Changes) -> None:
        self._gaps = changes.gaps
        self.latest: dict[RawKey, Change] = {}
        # For rows with values that their last event left out: column number -> where it is.
        self.cells: dict[RawKey, dict[int, Cell]] = {}
        self._graves: dict[RawKey, tuple[int, dict[int, Cell]]] = {}
        self._last_delete: Change | None = None
        self.rejects: list[Reject] = []

    def apply(self, change: Change) -> None:
        """Take the next change in stream order."""
        if change.op == "t":
            return
        key = change.key
        current = self.latest.get(key)
        # A streamed change always replaces a snapshot row: see `Change.guard`.
        if (
            current is not None
            and change.lsn < current.lsn
            and not (current.op == "r" and change.op != "r")
        ):
            return
        if change.op == "d":
            self._bury(key)
            self._last_delete = change
        gaps = self._gaps.get(change.after)
        cells = self._resolve(change, gaps) if gaps is not None else {}
        if change.old_key is not None:
            self._remove_old(change, change.old_key)
        if cells is None:
            return
        if cells:
            self.cells[key] = cells
        elif self.cells:
            self.cells.pop(key, None)
        self.latest[key] = change

    def _remove_old(self, change: Change, old_key: RawKey) -> None:
        """Remove the row under its old key, where its own delete is not in this batch."""
        current = self.latest.get(old_key)
        if current is not None and current.lsn >= change.lsn and current.op != "r":
            return
        self._bury(old_key)
        guard = change.guard if change.resumes_move or change.op == "u" else change.lsn
        self.latest[old_key] = change._replace(
            op="d", key=old_key, after=change.old_image, old_key=None, guard=guard
        )
        self.cells.pop(old_key, None)

    def _bury(self, key: RawKey) -> None:
        """Remember what a row held, for the row that its key change makes of it."""
        current = self.latest.get(key)
        if current is not None and current.op != "d":
            self._graves[key] = (current.after, self.cells.get(key, {}))

    def _resolve(self, change: Change, gaps: tuple[int, ...]) -> dict[int, Cell] | None:
        """Where the values are that the event left out; None where nothing can tell."""
        base, image = change.key, change.after
        if change.old_key is not None:
            base, image = change.old_key, change.old_image
        if change.op == "c":
            deleted = self._last_delete
            if deleted is not None and deleted.lsn == change.lsn:
                base, image = deleted.key, deleted.after
            elif change.old_key is None or not change.resumes_move:
                # Silver may hold the old row, but perhaps not as it was when its key changed.
                reason = (
                    "the event leaves out an unchanged large value, and the delete of the row's "
                    "old key did not come with it"
                )
                self.rejects.append(Reject(change.event, "unavailable-value", reason))
                return None
        return {number: self._cell(base, image, number) for number in gaps}

    def _cell(self, key: RawKey, image: int, number: int) -> Cell:
        current = self.latest.get(key)
        if current is not None and current.op != "d":
            return self.cells.get(key, {}).get(number, current.after)
        if current is not None and key in self._graves:
            row, cells = self._graves[key]
            return cells.get(number, row)
        return InSilver(key, image)

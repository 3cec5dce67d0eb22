"""Reduces several changes of a row in one batch to one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import Change, Changes, RawKey, Reject
from spark_streaming.fold.change_rows import (
    Cell,
    FindKeys,
    InSilver,
    Origin,
    QuarantinedColumns,
    ReadRows,
    build_rows,
    in_stream_order,
    truncation,
)
from spark_streaming.fold.keyless import fold_keyless


@dataclass(frozen=True)
class Folded:
    """One batch of one table, ready to merge.

    Args:
        rows: the contract's columns (silver names), then
            `_lsn` long, `_committed_at` timestamp (UTC) of the change that made the row;
            `_op` text: in a keyed table `u` (upsert) or `d` (delete, key columns only), at most one
            row per key; in a keyless one `i` (one more copy) or `d` (one copy less), netted;
            `_guard_lsn` long: a keyed row changes an existing one only if
            `_guard_lsn >= target._lsn`;
            `_keep_<column>` bool, for each column that some row leaves as it is in silver. Such a
            row must not be inserted if silver has no row of its key.
        truncate_lsn: silver rows with a lower `_lsn` go, in the same commit; None: none do.
        resnapshot_lsn: the same, for another reason: a snapshot of a whole keyless table began
            there, or a keyed table's first one again, or a resync that read all rows ended.
        rejects: changes that could not be folded, with their reasons.
        origin: the events that each row comes from.
    """

    rows: pa.Table
    truncate_lsn: Lsn | None = None
    resnapshot_lsn: Lsn | None = None
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
    read_rows: ReadRows,
    find_keys: FindKeys | None = None,
    quarantined: QuarantinedColumns | None = None,
) -> Folded:
    """Fold one table's changes into the input of one merge.

    Args:
        changes: all changes of one batch, from `decode`.
        contract: the contract that they were decoded with.
        read_rows: reads rows of silver as it was before this batch, by keys (tuples of Python values
            in the contract's key order). Called only for rows whose key changed while a large value
            did not.
        find_keys: returns which of these keys silver has. Called only for rows with a `_keep_` flag;
            those without a row in silver are rejected. None: the caller checks them.
        quarantined: values that are in quarantine and not in silver. A change that would take one of
            them from silver is rejected.
    """
    if contract.is_keyless:
        rows, truncate_lsn, resnapshot_lsn, origin = fold_keyless(changes, contract)
        resnapshot_lsn = _greater(resnapshot_lsn, changes.resync_lsn)
        return Folded(rows, truncate_lsn, resnapshot_lsn, [], origin)
    truncate = truncation(changes.changes)
    state = _Rows(changes)
    for change in in_stream_order(changes.changes):
        if truncate is None or not truncate.removes(change):
            state.apply(change)
    if changes.resync_lsn is not None:
        state.drop_below(changes.resync_lsn)
    rejects = list(state.rejects)
    rows = build_rows(
        changes,
        contract,
        state.latest,
        state.cells,
        read_rows,
        find_keys,
        rejects,
        quarantined or {},
    )
    finals = list(state.latest.values())
    origin = Origin(finals, [change.after for change in finals], state.cells)
    truncate_lsn = truncate.lsn if truncate else None
    resnapshot_lsn = _greater(changes.first_snapshot_lsn, changes.resync_lsn)
    return Folded(rows, truncate_lsn, resnapshot_lsn, rejects, origin)


def _greater(one: Lsn | None, other: Lsn | None) -> Lsn | None:
    return max((lsn for lsn in (one, other) if lsn is not None), default=None)


class _Rows:
    """The rows that a batch changes, as its changes leave them."""

    def __init__(self, changes: Changes) -> None:
        self._gaps = changes.gaps
        self.latest: dict[RawKey, Change] = {}
        # For rows whose last event left out values: column number -> where the value is.
        self.cells: dict[RawKey, dict[int, Cell]] = {}
        # Of deleted rows: the image, and where left-out values were.
        self._deleted: dict[RawKey, tuple[int, dict[int, Cell]]] = {}
        self._last_delete: Change | None = None
        self.rejects: list[Reject] = []

    def apply(self, change: Change) -> None:
        """Apply the next change in stream order."""
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
            self._remember(key)
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

    def drop_below(self, lsn: Lsn) -> None:
        """Drop rows that a resync did not find in the source.

        Call it after all changes: a later change may take a large value from an older one.
        """
        for key, change in list(self.latest.items()):
            if change.op != "d" and change.lsn < lsn:
                del self.latest[key]
                self.cells.pop(key, None)

    def _remove_old(self, change: Change, old_key: RawKey) -> None:
        """Delete the row under its old key, unless its own delete is in this batch."""
        current = self.latest.get(old_key)
        if current is not None and current.lsn >= change.lsn and current.op != "r":
            return
        self._remember(old_key)
        guard = change.guard if change.resumes_key_change or change.op == "u" else change.lsn
        self.latest[old_key] = change._replace(
            op="d", key=old_key, after=change.old_image, old_key=None, guard=guard
        )
        self.cells.pop(old_key, None)

    def _remember(self, key: RawKey) -> None:
        """Remember the values of a deleted row, for the row with the changed key."""
        current = self.latest.get(key)
        if current is not None and current.op != "d":
            self._deleted[key] = (current.after, self.cells.get(key, {}))

    def _resolve(self, change: Change, gaps: tuple[int, ...]) -> dict[int, Cell] | None:
        """Return where the left-out values are; None if that is unknown (the event is rejected)."""
        base, image = change.key, change.after
        if change.old_key is not None:
            base, image = change.old_key, change.old_image
        if change.op == "c":
            deleted = self._last_delete
            if deleted is not None and deleted.lsn == change.lsn:
                base, image = deleted.key, deleted.after
            elif change.old_key is None or not change.resumes_key_change:
                # Silver may have the old row, but not necessarily as it was when its key changed.
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
        if current is not None and key in self._deleted:
            image_of_row, cells = self._deleted[key]
            return cells.get(number, image_of_row)
        return InSilver(key, image)

"""Folds a keyless table: counts how many copies of a row are added and removed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pyarrow as pa

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.event import Change, Changes
from spark_streaming.fold.change_rows import Origin, in_stream_order, truncation, with_metadata


def fold_keyless(
    changes: Changes, contract: Contract
) -> tuple[pa.Table, Lsn | None, Lsn | None, Origin]:
    """Net the copies that one batch adds and removes.

    Returns: (rows as in `Folded.rows`, truncate LSN, resnapshot LSN, the rows' origin).
    """
    truncate = truncation(changes.changes)
    snapshot = _snapshot(changes.changes)
    identities = _identities(changes.images.select(contract.identity_columns))
    copies: dict[Hashable, int] = {}
    last: dict[Hashable, tuple[Change, int]] = {}  # the last change and image of each row
    for change in in_stream_order(changes.changes):
        if change.op == "t" or (truncate and truncate.removes(change)):
            continue
        if snapshot and change.lsn < snapshot.lsn and change.order <= snapshot.order:
            continue  # the snapshot includes it
        if changes.resync_lsn is not None and change.lsn < changes.resync_lsn:
            continue  # the resync includes it
        for image, step in ((change.before, -1), (change.after, 1)):
            if image >= 0:
                identity = identities[image]
                copies[identity] = copies.get(identity, 0) + step
                last[identity] = (change, image)
    rows: list[tuple[Change, int, str]] = []
    for identity, count in copies.items():
        change, image = last[identity]
        rows.extend([(change, image, "i" if count > 0 else "d")] * abs(count))
    table = with_metadata(
        changes.images.take(pa.array([image for _, image, _ in rows], pa.int64())),
        [change for change, _, _ in rows],
        [operation for _, _, operation in rows],
        {},
    )
    origin = Origin([change for change, _, _ in rows], [image for _, image, _ in rows])
    floors = (truncate.lsn if truncate else None, snapshot.lsn if snapshot else None)
    return table, *floors, origin


def _snapshot(changes: list[Change]) -> Change | None:
    """Return the change where the newest whole snapshot of a batch begins."""
    borders = [change for change in changes if change.starts_snapshot]
    newest = max((change.lsn for change in borders), default=None)
    return next((change for change in borders if change.lsn == newest), None)


def _identities(images: pa.Table) -> list[Hashable]:
    """Return a value for each image that is equal for equal rows, also with NULL and NaN."""
    columns = []
    for column in images.columns:
        values = column.to_pylist()
        if pa.types.is_floating(column.type) or pa.types.is_list(column.type):
            values = [_identity(value) for value in values]
        columns.append(values)
    return list(zip(*columns, strict=True)) if columns else [()] * images.num_rows


def _identity(value: Any) -> Hashable:
    if isinstance(value, list):
        return tuple(_identity(item) for item in value)
    return repr(value) if isinstance(value, float) else value

"""Folding a table without a key: how many copies of a row come and go."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pyarrow as pa

from spark_streaming.contract import Contract
from spark_streaming.events import Change, Changes
from spark_streaming.rows import Origin, in_stream_order, truncation, with_metadata


def fold_bag(
    changes: Changes, contract: Contract
) -> tuple[pa.Table, int | None, int | None, Origin]:
    """Net the copies that one batch adds and removes.

    Returns: (rows as `Folded.rows` describes them, truncate LSN, resnapshot LSN, their origin).
    """
    truncate = truncation(changes.changes)
    snapshot = _snapshot(changes.changes)
    identities = _identities(changes.images.select(contract.told_apart_by))
    copies: dict[Hashable, int] = {}
    shown: dict[Hashable, tuple[Change, int]] = {}
    for change in in_stream_order(changes.changes):
        if change.op == "t" or (truncate and truncate.removes(change)):
            continue
        if snapshot and change.lsn < snapshot.lsn and change.order <= snapshot.order:
            continue  # the snapshot holds what became of it
        for image, step in ((change.before, -1), (change.after, 1)):
            if image >= 0:
                identity = identities[image]
                copies[identity] = copies.get(identity, 0) + step
                shown[identity] = (change, image)
    rows: list[tuple[Change, int, str]] = []
    for identity, count in copies.items():
        change, image = shown[identity]
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
    """The change where the newest whole snapshot of a batch begins."""
    borders = [change for change in changes if change.starts_snapshot]
    newest = max((change.lsn for change in borders), default=None)
    return next((change for change in borders if change.lsn == newest), None)


def _identities(images: pa.Table) -> list[Hashable]:
    """For each image a value that is equal for equal rows, NULL and NaN included."""
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

"""Writes one commit of a Delta table: the statistics of its new files, and the log entry, as the protocol has them.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md (actions `add`, `remove`, `txn`, `commitInfo`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.tables.data_files import DataFile
from spark_streaming.tables.engine_protocol import Commit

# Delta's own default of `delta.dataSkippingNumIndexedCols`.
INDEXED_COLUMNS = 32
# A longer text has no greatest value, and the beginning of one as its least.
TEXT_MAX = 64
_WITH_RANGE = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_string,
)


def statistics(rows: pa.Table) -> dict[str, Any]:
    """Return the statistics of a file's rows, as an `add` action's `stats` has them."""
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in rows.column_names[:INDEXED_COLUMNS]:
        values = rows[name]
        if pa.types.is_nested(values.type):
            continue
        nulls[name] = values.null_count
        if values.null_count == len(values) or not any(
            is_kind(values.type) for is_kind in _WITH_RANGE
        ):
            continue
        low, high = _bounds(values)
        if low is not None:
            least[name] = low
        if high is not None:
            greatest[name] = high
    return {
        "numRecords": len(rows),
        "minValues": least,
        "maxValues": greatest,
        "nullCount": nulls,
    }


def log_entry(
    commit: Commit | None,
    added: Iterable[tuple[DataFile, Mapping[str, Any]]],
    removed: Sequence[DataFile],
    now: datetime,
    *,
    same_rows: bool = False,
) -> bytes:
    """Return the content of a commit's file in the log: an action in each line.

    Args:
        added: new files with their statistics. removed: files that the table does not have any more.
        same_rows: whether the new files have exactly the rows of the removed ones, so that readers of changes
            pass over the commit.
    """
    at = int(now.timestamp() * 1000)
    actions: list[dict[str, Any]] = []
    if commit is not None:
        txn = {"appId": commit.app_id, "version": commit.version, "lastUpdated": at}
        actions.append({"txn": txn})
    actions += (
        {
            "remove": {
                "path": file.path,
                "deletionTimestamp": at,
                "dataChange": not same_rows,
                "extendedFileMetadata": True,
                "partitionValues": {},
                "size": file.size,
            }
        }
        for file in removed
    )
    actions += (
        {
            "add": {
                "path": file.path,
                "partitionValues": {},
                "size": file.size,
                "modificationTime": at,
                "dataChange": not same_rows,
                "stats": _json(stats).decode(),
            }
        }
        for file, stats in added
    )
    info: dict[str, Any] = {
        "timestamp": at,
        "operation": "OPTIMIZE" if same_rows else "MERGE" if removed else "WRITE",
        "operationParameters": {},
        "engineInfo": "headwater",
    }
    actions.append({"commitInfo": info})
    return b"\n".join(_json(action) for action in actions)


def _bounds(values: pa.ChunkedArray) -> tuple[Any, Any]:
    """The least and the greatest value as JSON has them; None for one that is not to be said."""
    kind = values.type
    if pa.types.is_floating(kind) and not _is_finite(values):
        return None, None  # readers order NaN in different ways
    try:
        low, high = pc.min_max(values).as_py().values()
    except (ValueError, OverflowError):  # a date or a time beyond the year 9999
        return None, None
    if isinstance(low, str):
        return low[:TEXT_MAX], high if len(high) <= TEXT_MAX else None
    if isinstance(low, datetime):
        return _printed(low), _printed(_next_millisecond(high))
    return low, high


def _next_millisecond(value: datetime) -> datetime | None:
    """Round a time up to the millisecond; None beyond the year 9999."""
    rest = value.microsecond % 1000
    try:
        return value + timedelta(microseconds=1000 - rest) if rest else value
    except OverflowError:
        return None


def _printed(value: datetime | None) -> str | None:
    """Print a time to the millisecond, as Delta does."""
    return (
        None if value is None else value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _is_finite(values: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.is_finite(values)).as_py())


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))  # a number with all its digits
    raise TypeError(type(value).__name__)

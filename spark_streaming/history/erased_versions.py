"""Removes the versions of erased rows from a history table, in one commit."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable, PostCommitHookProperties

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.lsn import LOG_START
from spark_streaming.contract.masks import masked_column
from spark_streaming.events.arrow_values import convert
from spark_streaming.ops.erase_requests import ErasedKey
from spark_streaming.rules.rules import TableRules

_FIRST, _LAST = "_first_lsn", "_last_lsn"
_LSN_MAX = 2**63 - 1
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def delete_versions(
    table: DeltaTable,
    contract: Contract,
    rules: TableRules,
    secret: bytes,
    keys: Sequence[ErasedKey],
) -> int:
    """Remove all versions of these keys, or those of their changes between two positions.

    Args:
        secret: of the `hash` mask, by which the history holds a masked key.
    Returns: the number of versions removed.
    Raises: ValueError if a value is not one of the key's column.
    """
    rows = _rows(contract, rules, secret, keys)
    equal = [f"target.{quoted(name)} = source.{quoted(name)}" for name in contract.key]
    between = f"target._lsn >= source.{_FIRST} AND target._lsn <= source.{_LAST}"
    counts = (
        table.merge(
            rows,
            " AND ".join([*equal, between]),
            source_alias="source",
            target_alias="target",
            post_commithook_properties=_HOOKS,
        )
        .when_matched_delete()
        .execute()
    )
    return int(counts["num_target_rows_deleted"])


def _rows(
    contract: Contract, rules: TableRules, secret: bytes, keys: Sequence[ErasedKey]
) -> pa.Table:
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for number, name in enumerate(contract.key):
        values, bad = convert(contract.by_name[name], [key.values[number] for key in keys])
        if bad:
            raise ValueError(f"a value is not one of column {name}")
        chunked = pa.chunked_array([values])
        mask = rules.masks.get(name)
        columns[name] = chunked if mask is None else masked_column(chunked, mask, secret)
    spans = [key.lsns or (LOG_START, _LSN_MAX) for key in keys]
    columns[_FIRST] = pa.array([int(first) for first, _ in spans], pa.int64())
    columns[_LAST] = pa.array([int(last) for _, last in spans], pa.int64())
    return pa.table(columns)

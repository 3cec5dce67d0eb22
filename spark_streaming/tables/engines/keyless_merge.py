"""Tables without a key: how copies of equal rows are added and removed in one MERGE.

A MERGE can delete all rows that equal a value, never one of three. So all copies of a touched
value go, and those that stay are put back beside the new ones, in the same commit.
"""

from __future__ import annotations

import logging
import struct
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.fold.row_lookup import one_of
from spark_streaming.tables.engine_protocol import OP, MergeError, silver_columns, stamped
from spark_streaming.tables.silver_table import SilverTable

log = logging.getLogger(__name__)
_FILTERABLE = (pa.types.is_integer, pa.types.is_string, pa.types.is_decimal, pa.types.is_date)


@dataclass(frozen=True)
class KeylessPlan:
    """One bag merge.

    `source` has silver's columns and `_op`: 'd' once for each distinct value that silver has and
    whose copies all go, 'i' for each copy to write. `added` and `removed` count copies by the
    source's changes, `put_back` the copies that were removed and added again. `missing` counts removals of
    copies that silver does not have: nothing is written for them.
    """

    source: pa.Table
    added: int
    removed: int
    put_back: int
    missing: int

    @property
    def removes_rows(self) -> bool:
        return self.removed + self.put_back > 0

    @property
    def is_nothing(self) -> bool:
        """Whether no copy is added or removed."""
        return not len(self.source)

    def check(self, *, inserted: int, floor: int | None) -> None:
        """Raise MergeError if the merge's own counts contradict the plan."""
        if inserted != self.added + self.put_back:
            raise MergeError(
                f"a merge without a key wrote {inserted} copies instead of "
                f"{self.added + self.put_back} (floor LSN {floor})"
            )


def plan_keyless(table: SilverTable, rows: pa.Table, floor: int | None) -> KeylessPlan:
    """Work out which copies go and which are written.

    Args:
        rows: folded rows of a table without a key: its columns, `_lsn`, `_committed_at`, `_op`
            ('i' | 'd'), one row per copy.
        floor: copies in silver with a lower `_lsn` go anyway and are not put back.
    """
    added = rows.filter(pc.equal(rows[OP], "i"))
    removed = rows.filter(pc.equal(rows[OP], "d"))
    columns = silver_columns(table.contract)
    schema = table.contract.silver_schema()
    fresh = _with_op(stamped(added).select(columns).cast(schema), "i")
    if not len(removed):
        return KeylessPlan(fresh, len(added), 0, 0, 0)
    names = table.contract.identity_columns
    wanted: dict[Hashable, int] = defaultdict(int)
    first: dict[Hashable, int] = {}
    for index, row in enumerate(_values(removed, names)):
        wanted[row] += 1
        first.setdefault(row, index)
    copies = _copies(table, removed, names, floor)
    put_back: list[int] = []
    there: list[int] = []
    missing = gone = 0
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for index, row in enumerate(_values(copies, names)):
        if row in wanted:
            positions[row].append(index)
    for row, count in wanted.items():
        held = positions[row]
        missing += max(0, count - len(held))
        gone += min(count, len(held))
        put_back += held[count:]
        if held:  # a 'd' without its copies would find nothing to remove
            there.append(first[row])
    if missing:
        # Rows in quarantine are not among the copies; otherwise an earlier event of the row had another value.
        log.warning(
            "table %s: %d row(s) were to be removed that silver does not have\n"
            "  hint: an earlier change was lost or is in quarantine; `headwater verify %s` names what "
            "differs, `headwater resync %s` repairs it",
            table.name,
            missing,
            table.name,
            table.name,
        )
    parts = [
        _with_op(
            stamped(removed.take(pa.array(sorted(there), pa.int64()))).select(columns).cast(schema),
            "d",
        ),
        # Arrow cannot take by an empty list: it has no type.
        _with_op(copies.take(pa.array(put_back, pa.int64())).select(columns).cast(schema), "i"),
        fresh,
    ]
    # Spark reads nothing from a table whose first chunk is empty.
    return KeylessPlan(
        pa.concat_tables(parts).combine_chunks(), len(added), gone, len(put_back), missing
    )


def _with_op(rows: pa.Table, op: str) -> pa.Table:
    return rows.append_column(OP, pa.array([op] * len(rows), pa.string()))


def _copies(table: SilverTable, removed: pa.Table, names: list[str], floor: int | None) -> pa.Table:
    """Rows of silver that may equal a removed one, narrowed by the columns that can be."""
    dataset = table.handle().to_pyarrow_dataset()
    condition = None if floor is None else pc.field("_lsn") >= floor
    for name in names:
        values = removed[name]
        if values.null_count or not any(is_kind(values.type) for is_kind in _FILTERABLE):
            continue
        term = one_of(name, values.combine_chunks().unique())
        condition = term if condition is None else condition & term
    return dataset.to_table(filter=condition)


def _values(rows: pa.Table, names: list[str]) -> list[Hashable]:
    columns = [[_hashable(v) for v in rows[name].to_pylist()] for name in names]
    return list(zip(*columns, strict=True))


def _hashable(value: Any) -> Hashable:
    # By bits, so that NaN equals itself and -0.0 is not 0.0, as in both engines' null-safe `=`.
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, list):
        return tuple(_hashable(v) for v in value)
    return value if isinstance(value, Hashable) else repr(value)

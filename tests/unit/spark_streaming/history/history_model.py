"""A history table in memory, and what a history says of a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from spark_streaming.contract.contract import Contract
from spark_streaming.fold.row_lookup import keys_in
from spark_streaming.history.history_columns import history_schema, rows_of
from spark_streaming.history.history_table import Progress, Replaced
from spark_streaming.history.intervals import Floor, Key, Version

Row = dict[str, Any]


class TableInMemory:
    """What `HistoryTable` does to its rows, without Delta."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.progress = Progress()
        self.table = history_schema(contract).empty_table()

    def current(self, keys: set[Key]) -> pa.Table:
        return self._chosen(lambda key, row: row["_is_current"] and key in keys)

    def last_ended(self, keys: set[Key]) -> pa.Table:
        found = self._chosen(lambda key, row: not row["_is_current"] and key in keys)
        return found.sort_by([("_valid_to_lsn", "ascending"), ("_lsn", "ascending")])

    def write(
        self,
        images: pa.Table,
        new: Sequence[Version],
        replaced: Sequence[Replaced],
        floors: Sequence[Floor],
        progress: Progress,
        *,
        each: bool,
    ) -> None:
        gone = {one.key for one in replaced}
        left = self._chosen(lambda key, row: not row["_is_current"] or key not in gone)
        rows = [_ended(row, floors, each) for row in left.to_pylist()]
        kept = pa.Table.from_pylist([row for row in rows if row], schema=self.table.schema)
        newer = [one.newer for one in replaced if one.newer is not None]
        self.table = pa.concat_tables([kept, rows_of([*new, *newer], images).cast(kept.schema)])
        self.progress = progress

    def _chosen(self, wanted: Any) -> pa.Table:
        keys = keys_in(self.table, self.contract.key)
        rows = self.table.to_pylist()
        return self.table.filter(
            pa.array([bool(wanted(k, r)) for k, r in zip(keys, rows, strict=True)], pa.bool_())
        )


def _ended(row: Row, floors: Sequence[Floor], each: bool) -> Row | None:
    for floor in floors:
        if not row["_is_current"] or row["_lsn"] >= floor.lsn:
            continue
        if not each and row["_valid_from_lsn"] >= floor.at.lsn:
            return None
        time = pa.scalar(floor.at.time_us, pa.timestamp("us", "UTC")).as_py()
        since = row["_valid_from"]
        return {
            **row,
            "_is_current": False,
            "_valid_to_lsn": max(row["_valid_from_lsn"], floor.at.lsn),
            "_valid_to": time,
            "_valid_from": min(since, time) if row["_operation"] == "snapshot" else since,
            "_ended_by": floor.reason,
        }
    return row


def valid_at(rows: Iterable[Row], contract: Contract, lsn: int) -> Counter[tuple[Any, ...]]:
    """The source's columns of the rows that were there at an LSN, counted."""
    names = [column.name for column in contract.columns]
    return Counter(
        tuple(row[name] for name in names)
        for row in rows
        if row["_valid_from_lsn"] <= lsn
        and (row["_valid_to_lsn"] is None or lsn < row["_valid_to_lsn"])
    )


def check_rows(rows: Sequence[Row], mode: str) -> None:
    """Versions of a row with key `id` do not overlap, and each says how it came and how it went."""
    by_key: dict[Any, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row["id"], []).append(row)
        ended = row["_valid_to_lsn"] is not None
        assert ended != row["_is_current"], row
        assert ended == (row["_ended_by"] is not None) == (row["_valid_to"] is not None), row
        if ended:
            assert row["_valid_to_lsn"] >= row["_valid_from_lsn"], row
            assert mode == "each" or row["_valid_to_lsn"] > row["_valid_from_lsn"], row
    for some in by_key.values():
        some.sort(key=lambda r: (r["_valid_from_lsn"], r["_is_current"], r["_valid_to_lsn"] or 0))
        for row, after in pairwise(some):
            assert not row["_is_current"], some
            assert row["_valid_to_lsn"] <= after["_valid_from_lsn"], some

"""Reads the rows of a silver table at one version as canonical texts, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
from deltalake import DeltaTable

from app.compare.digest import Row
from spark_streaming.contract.canonical import column_texts
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import Lsn

BATCH_ROWS_MAX = 16_384
BATCH_BYTES = 8 << 20
READ_BUFFER_BYTES = 1 << 20


class SilverRows:
    """One version of a silver table, read by its contract; it has no rows if there is no table.

    A column of the contract that the version does not have yet is NULL in all rows.
    """

    def __init__(self, table: DeltaTable | None, contract: Contract) -> None:
        self._contract = contract
        self._table = table
        self.rows = 0
        self._batch_rows = BATCH_ROWS_MAX
        self._columns_there: set[str] = set()
        if table is None:
            return
        self._columns_there = set(table.schema().to_arrow().names)
        files = table.get_add_actions(flatten=True)
        self.rows = sum(count or 0 for count in files["num_records"].to_pylist())
        size = sum(files["size_bytes"].to_pylist())
        self._batch_rows = batch_rows(size, self.rows, BATCH_ROWS_MAX)

    def texts(self, condition: Any = None, lsn_min: Lsn | None = None) -> Iterator[Row]:
        """Yield the rows as canonical texts in the contract's column order.

        Args:
            condition: a filter of the dataset's rows; None takes all.
            lsn_min: leaves out rows whose `_lsn` is lower.
        """
        for batch in self._batches(condition, lsn_min):
            yield from zip(*self._columns(batch), strict=True)

    def values(self, condition: Any = None) -> Iterator[dict[str, Any]]:
        """Yield the rows as mappings from column to Python value."""
        for batch in self._batches(condition, None):
            for row in batch.to_pylist():
                yield {name: row.get(name) for name in self._contract.by_name}

    def _batches(self, condition: Any, lsn_min: Lsn | None) -> Iterator[pa.RecordBatch]:
        if self._table is None or not self.rows:
            return
        names = [name for name in self._contract.by_name if name in self._columns_there]
        terms = [] if condition is None else [condition]
        if lsn_min is not None:
            terms.append(pc.field("_lsn") >= lsn_min)
        yield from self._table.to_pyarrow_dataset().to_batches(
            columns=names,
            filter=reduce(and_, terms) if terms else None,
            batch_size=self._batch_rows,
            # Read one file and a few batches at a time: otherwise each thread keeps a whole row
            # group of another file in memory.
            batch_readahead=2,
            fragment_readahead=1,
            fragment_scan_options=pa_dataset.ParquetFragmentScanOptions(
                use_buffered_stream=True, buffer_size=READ_BUFFER_BYTES, pre_buffer=False
            ),
        )

    def _columns(self, batch: pa.RecordBatch) -> list[list[str | None]]:
        there = dict(zip(batch.schema.names, batch.columns, strict=True))
        return [
            column_texts(there[column.name], column)
            if column.name in there
            else [None] * batch.num_rows
            for column in self._contract.columns
        ]


def batch_rows(size_bytes: int, rows: int, rows_max: int) -> int:
    """Return how many rows to read at a time if `rows` rows take `size_bytes` in storage."""
    # Stored rows are compressed, text usually to a quarter.
    width = max(1, 4 * size_bytes // max(rows, 1))
    return max(16, min(rows_max, BATCH_BYTES // width))

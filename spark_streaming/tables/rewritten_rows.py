"""How the rows of a silver table become rows under a newer contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pa_dataset

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.kinds import TEXT_AS_IS
from spark_streaming.contract.types import Column
from spark_streaming.events.arrow_values import missing_value

REWRITE_ROWS = 65_536


class Rewrite:
    """How a table's rows become rows under a newer contract."""

    def __init__(
        self, old: Contract, new: Contract, have: pa.Schema, clear: bool, lenient: bool
    ) -> None:
        self.wanted = nullable(new.silver_schema())
        self._printed: dict[str, Callable[[Any], str]] = {}
        self.clear, self.lenient = clear, lenient
        self.begins_at_lsn = new.begins_at_lsn or new.valid_from_lsn
        self._missing = {column.name: missing_value(column) for column in new.columns}
        # Contract column → the table's column with its values; None if there is none.
        self.sources: dict[str, str | None] = {}
        old_by_number = {c.attnum: c for c in old.columns if c.attnum is not None}
        for column in new.columns:
            if clear:  # the columns of the two tables share nothing but their names
                self.sources[column.name] = column.name if column.name in have.names else None
                continue
            before = old_by_number.get(column.attnum) if column.attnum is not None else None
            same_name = old.by_name.get(column.name)
            if before is not None and before.name in have.names:
                self.sources[column.name] = before.name
            elif same_name is not None and same_name.attnum not in (None, column.attnum):
                self.sources[column.name] = None  # the name belonged to another column
            else:
                self.sources[column.name] = column.name if column.name in have.names else None
            typed = before or same_name
            if self.sources[column.name] and typed is not None and is_text_now(typed, column):
                self._printed[column.name] = typed.value_kind.text
        for name in self.wanted.names:
            self.sources.setdefault(name, name)
        self.added = [c.name for c in new.columns if c.name not in have.names]
        self.changed = [
            name
            for name, source in self.sources.items()
            if source and plain(have.field(source).type) != plain(self.wanted.field(name).type)
        ]
        moved = any(source not in (None, name) for name, source in self.sources.items())
        emptied = any(
            source is None and name in have.names for name, source in self.sources.items()
        )
        filled = any(self._missing[name].is_valid for name in self.added)
        self.rewrites = clear or bool(self.changed) or moved or emptied or filled

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Some rows under the newer contract."""
        columns = []
        for field in self.wanted:
            source = self.sources[field.name]
            if source is None:
                columns.append(pa.repeat(self._missing[field.name], len(batch)))
            elif field.name in self._printed:
                columns.append(_printed(batch[source], self._printed[field.name]))
            elif self.lenient:
                columns.append(_cast_or_null(batch[source], field.type))
            else:
                columns.append(batch[source].cast(field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self.wanted)


def recast(
    source: pa_dataset.Dataset, contract: Contract, wanted: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of a dataset under a contract's columns, a few batches in memory at a time."""
    filled = {c.name: missing_value(c) for c in contract.columns}
    for batch in source.to_batches(
        batch_size=REWRITE_ROWS, batch_readahead=2, fragment_readahead=1
    ):
        columns = [
            batch[field.name].cast(field.type)
            if field.name in batch.schema.names
            else pa.repeat(filled.get(field.name, pa.scalar(None, field.type)), len(batch))
            for field in wanted
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=wanted)


def is_text_now(old: Column, new: Column) -> bool:
    """Whether the contract file now carries a column of unchanged type as text."""
    return old.pg_type == new.pg_type and new.kind == TEXT_AS_IS != old.kind


def _printed(values: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    """The values as Postgres prints them; Arrow's casts write times and lists differently."""
    return pa.array([None if v is None else text(v) for v in values.to_pylist()], pa.string())


def _cast_or_null(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast values to another type, NULL if unfit; halving keeps the cost of a few unfit ones low."""
    try:
        return values.cast(kind)
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(values), kind)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, kind)
    middle = len(values) // 2
    halves = (values.slice(0, middle), values.slice(middle))
    return pa.concat_arrays([_cast_or_null(half, kind) for half in halves])


def nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def plain(kind: pa.DataType) -> str:
    """The type without details that Delta does not keep: string widths, names of list items."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{plain(kind.value_type)}>"
    return str(kind).replace("large_", "").replace("_view", "")

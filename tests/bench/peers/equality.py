"""A contender's tables and the source's, compared row by row and column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from app.compare.compare import Comparison, Row, compare
from spark_streaming.contract.canonical import (
    SESSION_SETTINGS,
    canonical_row,
    column_texts,
    source_select,
)
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.source_catalog import read_contract

NULL = "\\N"
RowsOf = Callable[[Contract], Iterable[Row]]


def unequal(dsn: str, tables: Iterable[str], rows_of: RowsOf, scratch: Path) -> list[str]:
    """Compare whole tables. Returns: one sentence for each table that differs; empty if all are equal.

    Args:
        rows_of: a contender's rows of a table as canonical texts, in the contract's column order.
        scratch: a folder for temporary files.
    """
    found = []
    with psycopg.connect(dsn, autocommit=True) as source:
        for setting in SESSION_SETTINGS:
            source.execute(setting.encode())
        for table in tables:
            contract = read_contract(source, "public", table)
            assert contract is not None
            result = compare(
                lambda c=contract: source.execute(source_select(c).encode()),  # type: ignore[misc]
                lambda c=contract: rows_of(c),  # type: ignore[misc]
                [column.name for column in contract.columns],
                [list(contract.by_name).index(name) for name in contract.key],
                scratch=scratch,
            )
            if not result.equal:
                found.append(_sentence(table, result))
    return found


def delta_rows(table: Any, contract: Contract) -> Iterator[Row]:
    """The rows of a Delta table, which may have deletion vectors."""
    from deltalake import QueryBuilder

    names = list(contract.by_name)
    query = QueryBuilder().register("t", table)
    columns = ", ".join(f'"{name}"' for name in names)
    for batch in query.execute(f"SELECT {columns} FROM t"):
        there = _arrow(batch)
        yield from zip(
            *(column_texts(there.column(c.name), c) for c in contract.columns), strict=True
        )


def file_rows(path: Path, contract: Contract) -> Iterator[Row]:
    """The rows that `Reader.java` wrote to a file."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            identity, v, note, body, price, updated = (
                None if value == NULL else value for value in line.rstrip("\n").split("\t")
            )
            assert identity is not None and v is not None
            values = (
                int(identity),
                int(v),
                note,
                body,
                price and Decimal(price),
                updated and datetime.fromisoformat(updated.replace("Z", "+00:00")),
            )
            yield canonical_row(contract, values)


def _arrow(batch: Any) -> Any:
    """A record batch of pyarrow, with the string types that its functions know."""
    import pyarrow as pa

    table = pa.Table.from_batches([pa.record_batch(batch)])
    wanted = [
        field.with_type(pa.string()) if str(field.type) == "string_view" else field
        for field in table.schema
    ]
    return table.cast(pa.schema(wanted)).combine_chunks()


def _sentence(table: str, result: Comparison) -> str:
    first = result.differences[0] if result.differences else None
    text = (
        f"{table}: {result.missing} rows missing, {result.extra} too many, "
        f"{result.differing} with other values"
    )
    if first is None:
        return text
    columns = ", ".join(
        f"{name} is {_short(theirs)}, not {_short(ours)}" for name, ours, theirs in first.columns
    )
    return f"{text}; the first: {first.kind} {first.key} {columns}".rstrip()


def _short(value: str | None) -> str:
    return "NULL" if value is None else repr(value if len(value) <= 40 else f"{value[:37]}...")

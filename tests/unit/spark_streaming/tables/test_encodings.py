"""Which encoding each column of a Parquet file gets, and that Arrow, delta-rs and DuckDB read the same rows back."""

from __future__ import annotations

import io
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from spark_streaming.tables.encodings import arrow_options, delta_rs_options

AT = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
# Column → the encoding that its values must have; None: any.
WANTED = {
    "id": "DELTA_BINARY_PACKED",
    "small": "DELTA_BINARY_PACKED",
    "at": "DELTA_BINARY_PACKED",
    "local": "DELTA_BINARY_PACKED",
    "day": "DELTA_BINARY_PACKED",
    "code": "DELTA_LENGTH_BYTE_ARRAY",
    "status": "RLE_DICTIONARY",
    "price": "PLAIN",
    "weight": "PLAIN",
    "dotted.name": "DELTA_BINARY_PACKED",
    "tags": None,
    "paid": None,
    "raw": None,
    "empty": None,
}


def some_rows(seed: int, count: int = 5_000) -> pa.Table:
    """Rows of every type that silver has, with NULLs."""
    random = Random(seed)

    def column(make: Any, kind: pa.DataType) -> pa.Array:
        return pa.array([None if random.random() < 0.1 else make() for _ in range(count)], kind)

    moment = [AT.replace(microsecond=number) for number in range(0, 1_000_000, 1_000)]
    return pa.table(
        {
            "id": pa.array([random.randrange(-(2**63), 2**63) for _ in range(count)], pa.int64()),
            "small": column(lambda: random.randrange(-(2**15), 2**15), pa.int16()),
            "at": column(lambda: random.choice(moment), pa.timestamp("us", "UTC")),
            "local": column(lambda: random.choice(moment), pa.timestamp("us")),
            "day": column(lambda: date.fromordinal(random.randrange(1, 3_000_000)), pa.date32()),
            "code": column(lambda: f"{random.random()} ü\u0000", pa.string()),
            "status": column(lambda: random.choice(["new", "paid", ""]), pa.string()),
            "price": column(lambda: Decimal(random.randrange(10**9)) / 100, pa.decimal128(38, 2)),
            "weight": column(random.random, pa.float64()),
            "dotted.name": column(lambda: random.randrange(9), pa.int32()),
            "tags": column(lambda: [f"{random.random()}", None], pa.list_(pa.string())),
            "paid": column(lambda: random.random() < 0.5, pa.bool_()),
            "raw": column(lambda: random.randbytes(9), pa.binary()),
            "empty": pa.nulls(count, pa.string()),
        }
    )


def encodings_of(content: bytes) -> dict[str, set[str]]:
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    return {column.path_in_schema: set(column.encodings) for column in columns}


def check(content: bytes) -> None:
    found = encodings_of(content)
    for name, wanted in WANTED.items():
        assert wanted is None or wanted in found[name], (name, found[name])
        has_dictionary = bool({"RLE_DICTIONARY", "PLAIN_DICTIONARY"} & found.get(name, set()))
        assert wanted is None or has_dictionary == (wanted == "RLE_DICTIONARY"), name


def test_arrow_writes_each_column_by_its_kind_and_reads_the_same_rows(seed: int) -> None:
    rows, content = some_rows(seed), io.BytesIO()
    pq.write_table(rows, content, **arrow_options(rows))
    check(content.getvalue())
    assert pq.read_table(io.BytesIO(content.getvalue())).equals(rows)


def test_delta_rs_writes_each_column_by_its_kind_and_reads_the_same_rows(
    tmp_path: Path, seed: int
) -> None:
    rows = some_rows(seed)
    write_deltalake(tmp_path, rows, writer_properties=delta_rs_options(rows, rows.schema))
    [file] = tmp_path.glob("*.parquet")
    check(file.read_bytes())
    read = duckdb.sql(f"SELECT * FROM '{file}'").to_arrow_table()
    assert read.cast(rows.schema).equals(rows)
    found = DeltaTable(tmp_path).to_pyarrow_table().select(rows.column_names)
    assert found.cast(rows.schema).equals(rows)


@pytest.mark.parametrize("count", [0, 1])
def test_a_table_of_hardly_a_row_is_written_like_any_other(count: int, tmp_path: Path) -> None:
    rows, content = some_rows(1, count), io.BytesIO()
    pq.write_table(rows, content, **arrow_options(rows))
    assert pq.read_table(io.BytesIO(content.getvalue())).equals(rows)
    write_deltalake(tmp_path, rows, writer_properties=delta_rs_options(rows, rows.schema))
    assert DeltaTable(tmp_path).to_pyarrow_table().num_rows == count


def test_a_column_that_the_sample_lacks_is_left_to_the_writer(tmp_path: Path) -> None:
    rows = some_rows(1)
    options = delta_rs_options(rows.select(["id", "code"]).slice(0, 3), rows.schema)
    write_deltalake(tmp_path, rows, writer_properties=options)
    found = DeltaTable(tmp_path).to_pyarrow_table().select(rows.column_names)
    assert found.cast(rows.schema).equals(rows)


def test_rows_of_other_types_than_the_tables_are_written_in_the_tables(tmp_path: Path) -> None:
    table = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.float64())])
    rows = pa.table({"a": [1, 2], "b": ["3", "4"], "c": [5, 6]})
    options = delta_rs_options(rows, table)
    write_deltalake(tmp_path, rows.cast(table), writer_properties=options)
    found = DeltaTable(tmp_path).to_pyarrow_table()
    assert found.to_pydict() == {"a": ["1", "2"], "b": [3, 4], "c": [5.0, 6.0]}


def test_a_column_named_like_the_elements_of_a_list_is_written(tmp_path: Path) -> None:
    rows = pa.table({"tags": [["a", "b"], ["c"]], "tags.list.element": [1, 2]})
    content = io.BytesIO()
    pq.write_table(rows, content, **arrow_options(rows))
    assert pq.read_table(io.BytesIO(content.getvalue())).equals(rows)
    write_deltalake(tmp_path, rows, writer_properties=delta_rs_options(rows, rows.schema))
    assert DeltaTable(tmp_path).to_pyarrow_table().to_pydict() == rows.to_pydict()

"""How a column is written to Parquet: most of a small merge's CPU, and of the object store's, is what it costs to write files again.

Parquet's writers try a dictionary for each column, and give it up where it grows too large. For numbers and times that
mostly differ, and for texts of which each is another one, this took two thirds of the time and gave larger files: 100,000 rows
of a number, a text and five times and positions took 28 ms and 6.4 MB, and take 9 ms and 2.0 MB. So:

- whole numbers, times and dates: differences to the value before (DELTA_BINARY_PACKED);
- few different values in the first rows: a dictionary;
- other texts: lengths, then bytes (DELTA_LENGTH_BYTE_ARRAY);
- all else as it is; and all with zstd.

Trino, Spark, delta-rs, Arrow, DuckDB, Polars and parquet-java read all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, WriterProperties

COMPRESSION = "zstd"
_DELTA, _LENGTHS = "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY"
_WHOLE = (pa.types.is_integer, pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
# Rows that are looked at, and how many of them must have one value, in the mean, for a dictionary.
_SAMPLE_ROWS = 2_000
_REPEATED_MIN = 4


def arrow_options(rows: pa.Table) -> dict[str, Any]:
    """Return Arrow's options for writing a table's rows as Parquet."""
    encodings, dictionaries = _encodings(rows)
    return {
        "compression": COMPRESSION,
        "use_dictionary": dictionaries,
        "column_encoding": encodings,
    }


def delta_rs_options(rows: pa.Table, columns: pa.Schema) -> WriterProperties:
    """Return delta-rs' options for writing a table with these columns, of which `rows` are a sample."""
    there = set(rows.column_names)
    # delta-rs casts the rows to the table's types, and an encoding is for some types only.
    same = [f.name for f in columns if f.name in there and _is_alike(f, rows.schema.field(f.name))]
    encodings, dictionaries = _encodings(rows.select(same))
    properties = {name: ColumnProperties(dictionary_enabled=True) for name in dictionaries}
    for name, encoding in encodings.items():
        properties[name] = ColumnProperties(dictionary_enabled=False, encoding=encoding)
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties=properties,
    )


def _encodings(rows: pa.Table) -> tuple[dict[str, str], list[str]]:
    """The columns with an encoding of their own, and those with a dictionary."""
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for field in rows.schema:
        if _is_any(_WHOLE, field.type):
            encodings[field.name] = _DELTA
        elif pa.types.is_nested(field.type) or pa.types.is_boolean(field.type):
            continue
        elif _is_repeated(rows[field.name]):
            dictionaries.append(field.name)
        elif _is_any(_TEXTS, field.type):
            encodings[field.name] = _LENGTHS
    return encodings, dictionaries


def _is_alike(one: pa.Field, other: pa.Field) -> bool:
    return all(_is_any(kinds, one.type) == _is_any(kinds, other.type) for kinds in (_WHOLE, _TEXTS))


def _is_any(kinds: Sequence[Callable[[pa.DataType], bool]], kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in kinds)


def _is_repeated(values: pa.ChunkedArray) -> bool:
    sample = values[:_SAMPLE_ROWS]
    different = pc.count_distinct(sample, mode="all").as_py()
    return bool(different * _REPEATED_MIN <= len(sample))

"""The value that rows older than a column have: Postgres keeps it in the catalog, as text."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa

from spark_streaming.convert import convert
from spark_streaming.types import Column, arrow_type


def missing_value(column: Column) -> pa.Scalar:
    """A column's catalog default for older rows as an Arrow scalar of its type; NULL without one.

    Raises: ValueError where the text is not of the column's type.
    """
    if column.missing_value is None:
        return pa.scalar(None, arrow_type(column))
    values, bad = convert(column, [_as_in_events(column, column.missing_value)])
    if bad:
        raise ValueError(f"default of {column.name}: {bad[0][1]}")
    return values[0]


def _as_in_events(column: Column, text: str) -> Any:
    """The catalog's text in the form that the change events carry the type in."""
    if column.kind in ("int16", "int32", "int64"):
        return int(text)
    if column.kind in ("float32", "float64"):
        return float(text)
    if column.kind == "bool":
        return text in ("t", "true")
    if column.kind == "bytes":
        return base64.b64encode(bytes.fromhex(text.removeprefix("\\x"))).decode()
    if column.kind in ("timestamp", "timestamptz") and text[0].isdigit():
        return text.replace(" ", "T").replace("+00", "") + "Z"
    return text

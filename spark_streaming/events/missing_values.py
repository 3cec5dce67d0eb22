"""The value of a column in rows older than the column: Postgres keeps it in the catalog, as text."""

from __future__ import annotations

import pyarrow as pa

from spark_streaming.contract.types import Column
from spark_streaming.events.arrow_values import convert


def missing_value(column: Column) -> pa.Scalar:
    """Return a column's catalog default for older rows, as an Arrow scalar; NULL without one.

    Raises: ValueError if the text is not of the column's type.
    """
    values, bad = convert(column, [column.event_value(column.missing_value)])
    if bad:
        raise ValueError(f"default of {column.name}: {bad[0][1]}")
    return values[0]

"""The Delta table `ops/verification`: the verdicts of each round of the continuous verification."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from app.verify.verdict import Verdict
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.storage.small_table import SmallTable

PATH = "ops/verification"
RETENTION = timedelta(days=30)
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("round", pa.int64()),
        ("table_name", pa.string()),
        ("verdict", pa.string()),
        ("rows", pa.int64()),
        ("missing", pa.int64()),
        ("extra", pa.int64()),
        ("differing", pa.int64()),
        ("at_least", pa.bool_()),
        ("differences", pa.string()),
        ("checked_pct", pa.float64()),
        ("source_lsn", pa.int64()),
        ("source_pg_lsn", pa.string()),
        ("delta_version", pa.int64()),
        ("seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("verified_at", _TIME),
        ("explained", pa.int64()),
    ]
)


class VerificationTable:
    """The Delta table; any number of writers may append.

    Args:
        lake: the lake's addresses and storage options (`spark_streaming.storage.lake.Lake`).
    """

    def __init__(self, lake: Any) -> None:
        self._table = SmallTable(lake, PATH, SCHEMA)

    def make(self) -> None:
        """Create the table if it is missing, so that queries find an empty one."""
        self._table.open()

    def append(self, number: int, verdicts: Sequence[tuple[Verdict, datetime, float]]) -> None:
        """Append one round's verdicts, each with its time and CPU seconds.

        Rows that differ are described by key and column, without values: readers of the operations
        schema need not be allowed to read the data.
        """
        rows = pa.Table.from_pylist([_row(number, *each) for each in verdicts], schema=SCHEMA)
        self._table.append(rows, time_column="verified_at", retention=RETENTION)

    def last_round(self) -> int:
        """Return the number of the last round; 0 before the first."""
        return max(self._table.column("round"), default=0)


def _row(number: int, verdict: Verdict, at: datetime, cpu_seconds: float) -> dict[str, object]:
    comparison = verdict.comparison
    differences = [
        f"{d.kind}: {d.key}"
        + (f": {', '.join(name for name, _, _ in d.columns)}" * bool(d.columns))
        for d in comparison.differences
    ]
    return {
        "round": number,
        "table_name": verdict.table,
        "verdict": verdict.word,
        "rows": comparison.rows,
        "missing": comparison.missing,
        "extra": comparison.extra,
        "differing": comparison.differing,
        "at_least": comparison.at_least,
        "explained": comparison.explained,
        "differences": "\n".join(differences) or verdict.refused or None,
        "checked_pct": verdict.checked_pct,
        "source_lsn": verdict.lsn,
        "source_pg_lsn": lsn_text(verdict.lsn),
        "delta_version": verdict.version,
        "seconds": verdict.seconds,
        "cpu_seconds": cpu_seconds,
        "verified_at": at,
    }

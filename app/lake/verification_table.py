"""`ops/verification` in the lake: what each round of the continuous verification found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from app.lake.verdict import Verdict
from spark_streaming.position import lsn_text

PATH = "ops/verification"
KEPT = timedelta(days=30)
# Each round is a commit and a file; so many are joined into one, and the old ones removed.
COMPACT_COMMITS = 100
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
    """The Delta table of the verdicts; any number of writers may append.

    Args:
        lake: gives the table's address and the store's options (`spark_streaming.lake.Lake`).
    """

    def __init__(self, lake: Any) -> None:
        self._lake = lake

    def make(self) -> None:
        """Make the table where it is not there: what asks for verdicts then finds none."""
        self._open()

    def append(self, number: int, verdicts: Sequence[tuple[Verdict, datetime, float]]) -> None:
        """Write one round's verdicts, each with when it was reached and its CPU seconds.

        Rows that differ are told by key and column; values stay where they are: who may read the
        operations schema need not be allowed to read the data.
        """
        rows = [_row(number, *verdict) for verdict in verdicts]
        table = self._open()
        write_delta(table, pa.Table.from_pylist(rows, schema=SCHEMA), mode="append")
        if (table.version() + 1) % COMPACT_COMMITS == 0:
            self.compact(datetime.now(timezone.utc) - KEPT)

    def compact(self, since: datetime) -> None:
        """Keep the rows since `since`, in one file; older files and log entries are removed."""
        table = self._open()
        rows = table.to_pyarrow_dataset().to_table(columns=SCHEMA.names).cast(SCHEMA)
        kept = rows.filter(pc.greater_equal(rows["verified_at"], pa.scalar(since, _TIME)))
        write_delta(table, kept, mode="overwrite")
        table.update_incremental()
        # A query that runs meanwhile may read the files of an hour ago.
        table.vacuum(retention_hours=1, enforce_retention_duration=False, dry_run=False)
        table.create_checkpoint()
        table.cleanup_metadata()

    def last_round(self) -> int:
        """The greatest round that is there; 0 before the first."""
        try:
            rows = self._lake.table(PATH).to_pyarrow_dataset().to_table(columns=["round"])
        except TableNotFoundError:
            return 0
        return int(pc.max(rows["round"]).as_py() or 0)

    def _open(self) -> DeltaTable:
        try:
            table: DeltaTable = self._lake.table(PATH)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(PATH),
                schema=SCHEMA,
                mode="ignore",
                configuration={"delta.logRetentionDuration": "interval 1 days"},
                storage_options=self._lake.storage_options(),
            )
        have = {field.name for field in table.schema().fields}
        missing = [field for field in SCHEMA if field.name not in have]
        if missing:  # made by an earlier release
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(missing)).fields))
        return table


def _row(number: int, verdict: Verdict, at: datetime, cpu_seconds: float) -> dict[str, object]:
    found = verdict.comparison
    told = [
        f"{d.kind}: {d.key}"
        + (f": {', '.join(name for name, _, _ in d.columns)}" * bool(d.columns))
        for d in found.differences
    ]
    return {
        "round": number,
        "table_name": verdict.table,
        "verdict": verdict.word,
        "rows": found.rows,
        "missing": found.missing,
        "extra": found.extra,
        "differing": found.differing,
        "at_least": found.at_least,
        "explained": found.explained,
        "differences": "\n".join(told) or verdict.refused or None,
        "checked_pct": verdict.checked_pct,
        "source_lsn": verdict.lsn,
        "source_pg_lsn": lsn_text(verdict.lsn),
        "delta_version": verdict.version,
        "seconds": verdict.seconds,
        "cpu_seconds": cpu_seconds,
        "verified_at": at,
    }

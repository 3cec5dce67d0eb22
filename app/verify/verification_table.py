"""The Delta table `ops/verification`: the verdicts of each round of the continuous verification."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import TableNotFoundError

from app.verify.verdict import Verdict
from spark_streaming.contract.lsn import lsn_text

PATH = "ops/verification"
RETENTION = timedelta(days=30)
# Each round is a commit with a file; after so many, the files are compacted.
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
    """The Delta table; any number of writers may append.

    Args:
        lake: the lake's addresses and storage options (`spark_streaming.storage.lake.Lake`).
    """

    def __init__(self, lake: Any) -> None:
        self._lake = lake

    def make(self) -> None:
        """Create the table if it is missing, so that queries find an empty one."""
        self._open()

    def append(self, number: int, verdicts: Sequence[tuple[Verdict, datetime, float]]) -> None:
        """Append one round's verdicts, each with its time and CPU seconds.

        Rows that differ are described by key and column, without values: readers of the operations
        schema need not be allowed to read the data.
        """
        rows = [_row(number, *verdict) for verdict in verdicts]
        table = self._open()
        write_delta(table, pa.Table.from_pylist(rows, schema=SCHEMA), mode="append")
        if (table.version() + 1) % COMPACT_COMMITS == 0:
            self.compact(datetime.now(timezone.utc) - RETENTION)

    def compact(self, since: datetime) -> None:
        """Rewrite the rows since `since` as one file, and remove older files and log entries."""
        table = self._open()
        rows = table.to_pyarrow_dataset().to_table(columns=SCHEMA.names).cast(SCHEMA)
        kept = rows.filter(pc.greater_equal(rows["verified_at"], pa.scalar(since, _TIME)))
        write_delta(table, kept, mode="overwrite")
        table.update_incremental()
        # A running query may still read files of the last hour.
        table.vacuum(retention_hours=1, enforce_retention_duration=False, dry_run=False)
        table.create_checkpoint()
        table.cleanup_metadata()

    def last_round(self) -> int:
        """Return the number of the last round; 0 before the first."""
        try:
            rows = self._lake.table(PATH).to_pyarrow_dataset().to_table(columns=["round"])
        except TableNotFoundError:
            return 0
        return int(pc.max(rows["round"]).as_py() or 0)

    def _open(self) -> DeltaTable:
        try:
            table: DeltaTable = self._lake.for_writing().table(PATH)
        except TableNotFoundError:
            return DeltaTable.create(
                self._lake.url(PATH),
                schema=SCHEMA,
                mode="ignore",
                configuration={"delta.logRetentionDuration": "interval 1 days"},
                storage_options=self._lake.storage_options(),
            )
        present = {field.name for field in table.schema().fields}
        missing = [field for field in SCHEMA if field.name not in present]
        if missing:  # made by a previous release
            table.alter.add_columns(list(Schema.from_arrow(pa.schema(missing)).fields))
        return table


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

"""Merging with Spark's MERGE: for large batches, first loads and clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

from spark_streaming.contract.contract import Contract
from spark_streaming.fold.keyed import Folded
from spark_streaming.tables.engine_protocol import (
    GUARD,
    KEEP,
    OP,
    Commit,
    Counts,
    MergeResult,
    floor_lsn,
    kept_columns,
    silver_columns,
    stamped,
)
from spark_streaming.tables.engines.keyless_merge import plan_keyless
from spark_streaming.tables.silver_table import SilverTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# About TARGET_FILE_BYTES of narrow rows.
ROWS_A_FILE = 100_000
_UNBOUNDED: Mapping[str, tuple[Any, Any]] = {}


class SparkEngine:
    """Merges as Spark jobs; each merge in a session of its own.

    The transaction id is a setting of the session and threads share sessions, so tables that
    merge in parallel must not share one.
    """

    name = "spark"

    def __init__(self, session: SparkSession) -> None:
        self._session = session

    def merge(self, table: SilverTable, folded: Folded, commit: Commit) -> MergeResult:
        """Merge one folded batch; see `engine_protocol` for its meaning."""
        if table.has_commit(commit):
            return MergeResult(table.version(), skipped=True)
        floor = floor_lsn(folded)
        with self._session_for(commit) as session:
            if table.contract.key:
                rows = stamped(folded.rows) if len(folded.rows) else folded.rows
                frame = session.createDataFrame(rows) if len(rows) else None
                return self._finish(
                    table, commit, lambda: merge_frame(session, table, frame, floor)
                )
            return self._finish(
                table, commit, lambda: _merge_keyless(session, table, folded, floor)
            )

    def merge_rows(
        self,
        table: SilverTable,
        rows: DataFrame,
        commit: Commit,
        *,
        count: int,
        bounds: Mapping[str, tuple[Any, Any]],
    ) -> MergeResult:
        """Merge rows that executors folded; see `RowsEngine`."""
        if table.has_commit(commit):
            return MergeResult(table.version(), skipped=True)
        stamp = datetime.now(timezone.utc).isoformat()
        stamped_rows = rows.selectExpr("*", f"timestamp'{stamp}' AS _merged_at")
        with self._session_for(commit) as session:
            if table.is_empty():
                return self._finish(
                    table, commit, lambda: append_frame(table, stamped_rows, commit, count)
                )
            return self._finish(
                table, commit, lambda: merge_frame(session, table, stamped_rows, None, bounds)
            )

    def _finish(self, table: SilverTable, commit: Commit, run: Callable[[], Counts]) -> MergeResult:
        try:
            counts = run()
        finally:
            # The delta-rs handle does not know Spark's commits.
            table.forget()
        table.committed(commit)
        return MergeResult(table.version(), *counts)

    @contextmanager
    def _session_for(self, commit: Commit) -> Iterator[SparkSession]:
        session = self._session.newSession()
        session.conf.set("spark.databricks.delta.write.txnAppId", commit.app_id)
        session.conf.set("spark.databricks.delta.write.txnVersion", str(commit.version))
        yield session


def merge_frame(
    session: SparkSession,
    table: SilverTable,
    rows: DataFrame | None,
    floor: int | None,
    bounds: Mapping[str, tuple[Any, Any]] = _UNBOUNDED,
) -> Counts:
    """Run the MERGE of a keyed table. Returns rows inserted, updated, deleted."""
    from delta.tables import DeltaTable

    target = DeltaTable.forPath(session, table.lake.spark_url(table.path))
    if rows is None:
        return _delete_below(target, floor)
    contract = table.contract
    terms = [f"target.{quoted(k)} = source.{quoted(k)}" for k in contract.key]
    for name, (low, high) in bounds.items() if floor is None else ():
        target_column = f"target.{quoted(name)}"
        terms.append(f"{target_column} >= {_literal(low)} AND {target_column} <= {_literal(high)}")
    on = " AND ".join(terms)
    newer = f"source.{GUARD} >= target._lsn"
    kept = kept_columns(rows)
    insertable = " AND ".join(
        [f"source.{OP} = 'u'", *(f"NOT source.{quoted(KEEP + c)}" for c in kept)]
    )
    merger = (
        target.alias("target")
        .merge(rows.alias("source"), on)
        .whenMatchedUpdate(f"source.{OP} = 'u' AND {newer}", _assignments(contract, kept))
        .whenMatchedDelete(f"source.{OP} = 'd' AND {newer}")
        .whenNotMatchedInsert(
            insertable, {quoted(c): f"source.{quoted(c)}" for c in silver_columns(contract)}
        )
    )
    if floor is not None:
        merger = merger.whenNotMatchedBySourceDelete(f"target._lsn < {floor}")
    merger.execute()
    return _counts(target)


def append_frame(table: SilverTable, rows: DataFrame, commit: Commit, count: int) -> Counts:
    """Append the upserts of a frame to a table that is empty.

    The files are ranges of the key: a later merge of a few keys opens few of them.
    """
    from delta.tables import DeltaTable

    keys = [quoted(name) for name in table.contract.key]
    url = table.lake.spark_url(table.path)
    (
        rows.where(f"{OP} = 'u'")
        .select(*[quoted(c) for c in silver_columns(table.contract)])
        .repartitionByRange(max(1, count // ROWS_A_FILE), *keys)
        .sortWithinPartitions(*keys)
        .write.format("delta")
        .mode("append")
        .option("txnAppId", commit.app_id)
        .option("txnVersion", str(commit.version))
        .save(url)
    )
    metrics = _last_metrics(DeltaTable.forPath(rows.sparkSession, url))
    return Counts(int(metrics.get("numOutputRows", 0)))


def _merge_keyless(
    session: SparkSession, table: SilverTable, folded: Folded, floor: int | None
) -> Counts:
    from delta.tables import DeltaTable

    target = DeltaTable.forPath(session, table.lake.spark_url(table.path))
    if not len(folded.rows):
        return _delete_below(target, floor)
    plan = plan_keyless(table, folded.rows, floor)
    if plan.is_nothing:
        return Counts(*_delete_below(target, floor)[:3], plan.missing)
    columns = silver_columns(table.contract)
    source = session.createDataFrame(plan.source)
    same = " AND ".join(
        f"target.{quoted(name)} <=> source.{quoted(name)}"
        for name in table.contract.identity_columns
    )
    merger = (
        target.alias("target")
        .merge(source.alias("source"), f"{same} AND source.{OP} = 'd'")
        .whenMatchedDelete()
        .whenNotMatchedInsert(
            f"source.{OP} = 'i'", {quoted(c): f"source.{quoted(c)}" for c in columns}
        )
    )
    if floor is not None:
        merger = merger.whenNotMatchedBySourceDelete(f"target._lsn < {floor}")
    merger.execute()
    inserted = _counts(target).inserted
    plan.check(inserted=inserted, floor=floor)
    return Counts(plan.added, 0, plan.removed, plan.missing)


def _delete_below(target: Any, floor: int | None) -> Counts:
    if floor is None:
        return Counts()
    target.delete(f"_lsn < {floor}")
    return Counts(deleted=int(_last_metrics(target).get("numDeletedRows", 0)))


def _counts(target: Any) -> Counts:
    metrics = _last_metrics(target)
    inserted = int(metrics.get("numTargetRowsInserted", 0))
    updated = int(metrics.get("numTargetRowsUpdated", 0))
    return Counts(inserted, updated, int(metrics.get("numTargetRowsDeleted", 0)))


def _last_metrics(target: Any) -> dict[str, str]:
    [last] = target.history(1).select("operationMetrics").collect()
    return dict(last.operationMetrics or {})


def _assignments(contract: Contract, kept: list[str]) -> dict[str, str]:
    flagged = set(kept)
    return {
        quoted(c): (
            f"CASE WHEN source.{quoted(KEEP + c)} THEN target.{quoted(c)} "
            f"ELSE source.{quoted(c)} END"
            if c in flagged
            else f"source.{quoted(c)}"
        )
        for c in silver_columns(contract)
    }


def _literal(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, date):
        return f"DATE'{value.isoformat()}'"
    # By its bytes: nothing in it is a quote or an escape then.
    return f"decode(X'{str(value).encode().hex()}', 'UTF-8')"


def quoted(name: str) -> str:
    """`name` as Spark SQL writes an identifier."""
    return "`" + name.replace("`", "``") + "`"

"""Merging with delta-rs: a twentieth of the CPU of a Spark MERGE for a small batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    CommitProperties,
    PostCommitHookProperties,
    WriterProperties,
    write_deltalake,
)

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.fold.keyed import Folded
from spark_streaming.tables.data_files import TARGET_FILE_BYTES
from spark_streaming.tables.encodings import delta_rs_options
from spark_streaming.tables.engine_protocol import (
    GUARD,
    KEEP,
    OP,
    Commit,
    Counts,
    MergeError,
    MergeResult,
    floor_lsn,
    kept_columns,
    silver_columns,
    stamped,
)
from spark_streaming.tables.engines.keyless_merge import plan_keyless
from spark_streaming.tables.silver_table import SilverTable, named

# Checkpoints and log clean-up are maintenance's, between batches: never inside a merge that
# somebody waits for.
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_PRUNABLE = (pa.types.is_integer, pa.types.is_string, pa.types.is_date)
# A source table's statistics would be computed for an early filter; ours is written out below.
_STREAMED = True


class DeltaRsEngine:
    """Merges in this process, single-threaded in Python, multi-threaded inside delta-rs."""

    name = "delta-rs"

    def merge(self, table: SilverTable, folded: Folded, commit: Commit) -> MergeResult:
        """Merge one folded batch; see `engine_protocol` for its meaning."""
        if table.has_commit(commit):
            return MergeResult(table.version(), skipped=True)
        merge = _merge_keyed if table.contract.key else _merge_keyless
        try:
            counts = merge(table, folded, named(commit))
        except Exception:
            # It is unknown whether the commit succeeded, so the next attempt must read the object store.
            table.forget()
            raise
        table.committed(commit)
        return MergeResult(table.version(), *counts, engine=self.name)


def _merge_keyed(table: SilverTable, folded: Folded, properties: CommitProperties) -> Counts:
    contract, floor = table.contract, floor_lsn(folded)
    if not len(folded.rows):
        return _empty_merge(table, floor, properties)
    merger = table.handle().merge(
        stamped(folded.rows),
        _on(contract, folded.rows, prune=floor is None),
        source_alias="source",
        target_alias="target",
        streamed_exec=_STREAMED,
        writer_properties=_writing(table, folded.rows),
        commit_properties=properties,
        post_commithook_properties=_HOOKS,
    )
    newer = f"source.{GUARD} >= target._lsn"
    merger = merger.when_matched_update(
        _assignments(contract, folded.rows), predicate=f"source.{OP} = 'u' AND {newer}"
    ).when_matched_delete(predicate=f"source.{OP} = 'd' AND {newer}")
    merger = merger.when_not_matched_insert(
        {quoted(c): f"source.{quoted(c)}" for c in silver_columns(contract)},
        predicate=_insertable(folded.rows),
    )
    if floor is not None:
        merger = merger.when_not_matched_by_source_delete(predicate=f"target._lsn < {floor}")
    counts = merger.execute()
    inserted, updated = counts["num_target_rows_inserted"], counts["num_target_rows_updated"]
    return Counts(inserted, updated, counts["num_target_rows_deleted"])


def _empty_merge(table: SilverTable, floor: int | None, properties: CommitProperties) -> Counts:
    """A batch that leaves no row: a truncate alone, or changes that undid each other."""
    if floor is None:
        return Counts()
    counts = table.handle().delete(
        f"_lsn < {floor}", commit_properties=properties, post_commithook_properties=_HOOKS
    )
    return Counts(deleted=int(counts.get("num_deleted_rows") or 0))


def _merge_keyless(table: SilverTable, folded: Folded, properties: CommitProperties) -> Counts:
    floor = floor_lsn(folded)
    if not len(folded.rows):
        return _empty_merge(table, floor, properties)
    plan = plan_keyless(table, folded.rows, floor)
    columns = silver_columns(table.contract)
    if plan.is_nothing:
        return Counts(*_empty_merge(table, floor, properties)[:3], plan.missing)
    if not plan.removes_rows and floor is None:
        write_deltalake(
            table.handle(),
            plan.source.select(columns),
            mode="append",
            target_file_size=TARGET_FILE_BYTES,
            writer_properties=_writing(table, plan.source),
            commit_properties=properties,
            post_commithook_properties=_HOOKS,
        )
        return Counts(plan.added, 0, 0, plan.missing)
    # Only null-safe terms: delta-rs 1.6.6 finds no match at all if one of them is `=`.
    same = " AND ".join(
        f"(target.{quoted(name)} IS NOT DISTINCT FROM source.{quoted(name)})"
        for name in table.contract.identity_columns
    )
    merger = (
        table.handle()
        .merge(
            plan.source,
            f"{same} AND source.{OP} = 'd'",
            source_alias="source",
            target_alias="target",
            streamed_exec=_STREAMED,
            writer_properties=_writing(table, plan.source),
            commit_properties=properties,
            post_commithook_properties=_HOOKS,
        )
        .when_matched_delete()
        .when_not_matched_insert(
            {quoted(c): f"source.{quoted(c)}" for c in columns}, predicate=f"source.{OP} = 'i'"
        )
    )
    if floor is not None:
        merger = merger.when_not_matched_by_source_delete(predicate=f"target._lsn < {floor}")
    counts = merger.execute()
    plan.check(inserted=counts["num_target_rows_inserted"], floor=floor)
    return Counts(plan.added, 0, plan.removed, plan.missing)


def _writing(table: SilverTable, rows: pa.Table) -> WriterProperties:
    return delta_rs_options(rows, pa.schema(table.handle().schema().to_arrow()))


def _insertable(rows: pa.Table) -> str:
    """A row that leaves a column as it is cannot be a new one: fold rejects those beforehand."""
    terms = [f"source.{OP} = 'u'"]
    terms += [f"NOT source.{quoted(KEEP + c)}" for c in kept_columns(rows)]
    return " AND ".join(terms)


def _assignments(contract: Contract, rows: pa.Table) -> dict[str, str]:
    kept = set(kept_columns(rows))
    return {
        quoted(c): (
            f"CASE WHEN source.{quoted(KEEP + c)} THEN target.{quoted(c)} "
            f"ELSE source.{quoted(c)} END"
            if c in kept
            else f"source.{quoted(c)}"
        )
        for c in silver_columns(contract)
    }


def _on(contract: Contract, rows: pa.Table, *, prune: bool) -> str:
    equal = [f"target.{quoted(k)} = source.{quoted(k)}" for k in contract.key]
    if prune:
        equal += [bound for k in contract.key if (bound := _range(k, rows[k]))]
    return " AND ".join(equal)


def _range(name: str, values: pa.ChunkedArray) -> str | None:
    """The batch's own range of a key column: files outside of it are not even opened."""
    if not any(is_kind(values.type) for is_kind in _PRUNABLE):
        return None
    bounds = pc.min_max(values).as_py()
    low, high = (_literal(bounds[end]) for end in ("min", "max"))
    return f"target.{quoted(name)} >= {low} AND target.{quoted(name)} <= {high}"


def _literal(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


_Merge = Callable[[SilverTable, Folded, CommitProperties], Counts]
__all__ = ["DeltaRsEngine", "MergeError"]

"""Applies rules that need other rows: uniqueness, and references to another table.

Both see silver and this batch. A row's parent comes through another topic and may be merged a batch
later, so a missing parent may be missing only for the moment. That is why `warn` is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from spark_streaming.fold.keyed import Folded
from spark_streaming.fold.row_lookup import one_of
from spark_streaming.rules.row_judge import Finding, true_rows
from spark_streaming.rules.rules import Reference, TableRules, Uniqueness

# Opens a silver table of the source's (schema, table); None if there is none.
OpenSilver = Callable[[str, str], DeltaTable | None]
# Gives a source table's folded rows of the batch; None if the batch has none.
InBatch = Callable[[str, str], pa.Table | None]


def uniqueness_findings(
    folded: Folded, key: tuple[str, ...], rules: TableRules, silver: DeltaTable
) -> list[Finding]:
    """The rows whose declared columns equal another row's.

    Of two equal rows this is the later one in the batch; if silver has one, the one in the batch.
    """
    found = []
    for rule in rules.uniques:
        rows = _doubles(folded.rows, key, rule, silver)
        if rows:
            said = f"({', '.join(rule.columns)}) is unique"
            found.append(Finding(rule.name, rule.action, said, rule.columns, rows))
    return found


def reference_findings(
    folded: Folded, rules: TableRules, silver: OpenSilver, in_batch: InBatch
) -> list[Finding]:
    """The rows whose value is missing in the table that it refers to.

    A rule is skipped if silver does not have the other table or column, because it cannot be
    decided.
    """
    found = []
    for rule in rules.references:
        rows = _orphans(folded.rows, rule, silver, in_batch)
        if rows:
            said = f"{rule.column} is in {rule.schema}.{rule.table}.{rule.target}"
            found.append(Finding(rule.name, rule.action, said, (rule.column,), rows))
    return found


def _candidates(rows: pa.Table, columns: tuple[str, ...]) -> list[int]:
    """The written rows that have a value in each of the columns: not NULL, and not left out."""
    mask = pc.not_equal(rows["_op"], "d")
    for name in columns:
        mask = pc.and_(mask, pc.is_valid(rows[name]))
        if f"_keep_{name}" in rows.column_names:
            mask = pc.and_(mask, pc.invert(rows[f"_keep_{name}"]))
    return true_rows(mask)


def _tuples(rows: pa.Table, columns: tuple[str, ...]) -> list[tuple[Hashable, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in columns), strict=True))


def _doubles(
    rows: pa.Table, key: tuple[str, ...], rule: Uniqueness, silver: DeltaTable
) -> frozenset[int]:
    candidates = _candidates(rows, rule.columns)
    if not candidates:
        return frozenset()
    taken = rows.take(pa.array(candidates, pa.int64()))
    values = dict(zip(candidates, _tuples(taken, rule.columns), strict=True))
    lsns = rows["_lsn"].to_pylist()
    owners: dict[tuple[Hashable, ...], int] = {}
    doubles = set()
    for number in sorted(candidates, key=lambda n: lsns[n]):
        if owners.setdefault(values[number], number) != number:
            doubles.add(number)
    touched = set(_tuples(rows, key))  # their rows in silver are about to change
    existing = _matching(silver, taken, rule.columns, key)
    others = {
        value
        for value, row in zip(_tuples(existing, rule.columns), _tuples(existing, key), strict=True)
        if row not in touched
    }
    doubles |= {number for value, number in owners.items() if value in others}
    return frozenset(doubles)


def _matching(
    silver: DeltaTable, rows: pa.Table, columns: tuple[str, ...], key: tuple[str, ...]
) -> pa.Table:
    condition: Any = None
    for name in columns:
        term = one_of(name, pc.unique(rows[name]))
        condition = term if condition is None else condition & term
    names = list(dict.fromkeys((*columns, *key)))
    return silver.to_pyarrow_dataset().to_table(columns=names, filter=condition)


def _orphans(
    rows: pa.Table, rule: Reference, silver: OpenSilver, in_batch: InBatch
) -> frozenset[int]:
    candidates = _candidates(rows, (rule.column,))
    parent = silver(rule.schema, rule.table) if candidates else None
    if parent is None:
        return frozenset()
    schema = pa.schema(parent.schema().to_arrow())
    if rule.target not in schema.names:
        return frozenset()
    values = rows[rule.column].take(pa.array(candidates, pa.int64()))
    known: set[Hashable] = set()
    batch = in_batch(rule.schema, rule.table)
    if batch is not None and rule.target in batch.column_names:
        known |= set(batch.filter(pc.not_equal(batch["_op"], "d"))[rule.target].to_pylist())
    wanted = [v for v in pc.unique(values).to_pylist() if v not in known]
    if wanted:
        # The other table's type: an int may refer to a bigint.
        kind = schema.field(rule.target).type
        condition = one_of(rule.target, pa.array(wanted, kind))
        parents = parent.to_pyarrow_dataset().to_table(columns=[rule.target], filter=condition)
        known |= set(parents[rule.target].to_pylist())
    return frozenset(
        number
        for number, value in zip(candidates, values.to_pylist(), strict=True)
        if value not in known
    )

"""Finds the effects of a source's schema change on bronze, silver, Trino and dashboards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from app.catalog.ddl import Effect
from app.catalog.views import View
from app.errors import HeadwaterError
from spark_streaming.contract.contract_files import ContractFileError, Evolution
from spark_streaming.contract.evolution import (
    EVOLVE,
    FAIL,
    NEW_VERSION,
    QUARANTINE,
    SchemaChange,
    changes_between,
    policy_of,
    strictest,
)
from spark_streaming.contract.names import silver_table
from spark_streaming.tables.silver_table import generation_name

Policies = Callable[[str, str], Evolution]
Texts = Callable[[str, str], frozenset[str]]


@dataclass(frozen=True)
class PlannedChange:
    """One change of one table and its consequences, all as text.

    Args:
        policy: from the contract file, or the default; with the stricter policy of another change
            of the same table, if that one decides.
    """

    table: str
    kind: str
    change: str
    policy: str
    bronze: str
    silver: str
    trino: str
    dashboards: str
    warning: str

    @classmethod
    def columns(cls) -> list[str]:
        return [field.name for field in fields(cls)]

    def row(self) -> tuple[str, ...]:
        return astuple(self)


_BRONZE = {
    "add_column": "events have the column from then on; stored as they come",
    "drop_column": "events lack the column from then on; older ones keep it",
    "rename_column": "events have the new name from then on; older ones keep the old one",
    "widen_type": "as before",
    "incompatible_change": "events have the new type's values from then on",
    "key_change": "message keys have the new columns from then on",
    "table_added": "a new topic, and its folder with the first event",
    "table_dropped": "its events stay",
    "table_recreated": "the events of both tables, one after the other, under one topic",
    "table_truncated": "one more event; the older ones stay",
    "replica_identity": "events hold more, or less, of the row before the change",
    "enum_value": "as before",
}
_EVOLVED = {
    "add_column": "gets the column; older rows have its default, else NULL",
    "drop_column": "keeps the column; it is NULL in rows that change from then on",
    "rename_column": "the column is renamed with its values; the table is written again, once",
    "widen_type": "the column gets the wider type, and the table is written again, once; where silver's "
    "type is the same, it stays",
    "incompatible_change": "the column gets the new type; values are cast, and where one cannot "
    "be, the table stops",
    "key_change": "rows are told apart by the new key from then on",
    "table_added": "a new table, with its rows",
    "table_dropped": "the table stays with its last rows",
    "table_recreated": "the rows of the old table go; those of the new one come",
    "table_truncated": "the rows go",
    "replica_identity": "as before",
    "enum_value": "as before: enums are text",
}


def as_silver_reads(
    effects: Iterable[Effect], texts: Texts, version_of: Callable[[str, str], int | None]
) -> list[Effect]:
    """Return the effects with contracts as silver has them, which may differ from the catalog's.

    Args:
        texts: returns a table's columns that its contract file keeps as text, whose type never
            becomes wider. Raises ContractFileError.
        version_of: returns the contract version that silver follows; None if it is not known.
    """
    adapted = []
    for effect in effects:
        names = texts(*effect.table)
        before, after = (c and c.with_texts(names) for c in (effect.before, effect.after))
        version = version_of(*effect.table)
        if before is not None and version is not None:
            before = replace(before, version=version)
        adapted.append(replace(effect, before=before, after=after))
    return adapted


def plan(
    effects: Iterable[Effect],
    policies: Policies,
    views: Sequence[View],
    superset: Path | None = None,
) -> list[PlannedChange]:
    """Plan each effect; changes nothing.

    Args:
        policies: returns a table's `[evolution]`; raises ContractFileError.
        superset: the folder of dashboards as code; None without one.
    Raises: HeadwaterError if a contract file is wrong.
    """
    planned = []
    for effect in effects:
        schema, table = effect.table
        changes = changes_between(effect.before, effect.after)
        if effect.truncated:
            changes = [SchemaChange("table_truncated", "TRUNCATE")]
        try:
            evolution = policies(schema, table)
        except ContractFileError as error:
            raise HeadwaterError(
                f"the contract file of {schema}.{table} is wrong", detail=str(error)
            ) from error
        counts = strictest(policy_of(evolution, change.kind) for change in changes)
        refusal = effect.after.refusal if effect.after else None
        version = effect.before.version if effect.before else 1
        for change in changes:
            own = policy_of(evolution, change.kind)
            silver = silver_table(schema, table)
            used = used_by(change, silver, views)
            followed = counts in (EVOLVE, NEW_VERSION) and not refusal
            planned.append(
                PlannedChange(
                    f"{schema}.{table}",
                    change.kind,
                    change.detail,
                    own if own == counts else f"{own}; {counts} counts for the table",
                    _BRONZE[change.kind],
                    _silver(change, counts, refusal, generation_name(silver, version)),
                    _trino(change, silver, used, followed),
                    _dashboards(change, silver, used, superset) if followed else "as before",
                    change.warning,
                )
            )
    return planned


def used_by(change: SchemaChange, silver: str, views: Sequence[View]) -> list[str]:
    """List the views that read a changed column, then the views that read those views."""
    column = change.was or change.column
    name = f"silver.{silver}"
    using = [
        view.name
        for view in views
        if name in view.reads and (not column or _names(view.select, column))
    ]
    for view in views:  # each comes after those that it reads
        if view.name not in using and any(read in using for read in view.reads):
            using.append(view.name)
    return using


def _names(text: str, column: str) -> bool:
    return re.search(rf"\b{re.escape(column)}\b", text, re.IGNORECASE) is not None


def _silver(change: SchemaChange, policy: str, refusal: str | None, generation: str) -> str:
    if refusal:
        return f"the table stops: {' '.join(refusal.split())}"
    if policy == FAIL:
        if change.kind == "table_truncated":
            return "the table stops with the event, its rows kept, until its policy is another one"
        if change.kind == "table_dropped":
            return "the table stops with its last rows, until its policy is another one"
        return (
            "the table stops with the first event of the new shape, until its policy or the "
            "source is another one; then it goes on from there"
        )
    if policy == QUARANTINE:
        if change.kind == "table_truncated":
            return "the rows stay; the event waits in quarantine"
        return (
            "as before; events of the new shape wait in quarantine, and can be replayed when "
            "the policy is another one"
        )
    text = _EVOLVED[change.kind]
    if policy == NEW_VERSION:
        if change.kind == "incompatible_change":
            text = "the column gets the new type; values that cannot be cast are NULL"
        return f"the table as it is stays beside as `{generation}`; {text}"
    return text


def _trino(change: SchemaChange, silver: str, used: list[str], followed: bool) -> str:
    listed = ", ".join(used)
    if not followed:
        return f"as before{'; read by ' + listed if used else ''}"
    text = {
        "add_column": f"silver.{silver} has the column at once",
        "drop_column": f"silver.{silver} keeps the column",
        "rename_column": f"silver.{silver} has the new name only",
        "widen_type": f"silver.{silver} has the new type",
        "incompatible_change": f"silver.{silver} has the new type",
        "table_added": f"silver.{silver} is there at once, empty",
        "table_recreated": f"silver.{silver} has the new table's columns",
    }.get(change.kind, f"silver.{silver} as before")
    if not used:
        return text
    effect = {
        "rename_column": "fails until its file in trino/views has the new name",
        "drop_column": "goes on, with NULL for newer rows",
        "incompatible_change": "may fail: it reads the column",
        "table_truncated": "goes on, over no rows",
        "table_recreated": "may fail, if a column it reads is gone",
    }.get(change.kind, "goes on")
    if change.kind == "add_column":
        return text
    return f"{text}; {listed}: {effect}"


def _dashboards(change: SchemaChange, silver: str, used: list[str], superset: Path | None) -> str:
    """List the files of dashboards that show a changed column."""
    if superset is None or not superset.is_dir():
        return "none in this tree"
    column = change.was or change.column
    views = [name.split(".", 1)[1] for name in used]
    files = []
    for path in sorted(superset.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace")
        direct = _names(text, silver) and (not column or _names(text, column))
        if change.kind != "add_column" and (direct or any(_names(text, view) for view in views)):
            files.append(str(path.relative_to(superset)))
    return f"look at {', '.join(files)}" if files else "none reads it"

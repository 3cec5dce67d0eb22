"""Finds the schema changes between two contracts of a table, and the policy of each.

All functions are pure. Each `SchemaChange` has a kind. `POLICIES` has a default policy and the
alternatives for each kind; the table's contract file may choose another one. If several changes
come together, the strictest policy counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.kinds import ARRAY, PLAIN_TEXT_TYPES, TEXT_AS_IS
from spark_streaming.contract.types import Column

EVOLVE, QUARANTINE, FAIL, NEW_VERSION = "evolve", "quarantine", "fail", "new_version"
_STRICTNESS = (EVOLVE, NEW_VERSION, QUARANTINE, FAIL)


@dataclass(frozen=True)
class KindPolicies:
    """The policies of one kind of change: the default, the allowed ones, and why no others are."""

    default: str
    allowed: tuple[str, ...]
    why_not: str = ""


_NO_GENERATION = "the rows stay correct, so a new table would hold nothing else"
POLICIES = {
    "add_column": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL), _NO_GENERATION),
    "drop_column": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL), _NO_GENERATION),
    "rename_column": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL), _NO_GENERATION),
    "widen_type": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL), _NO_GENERATION),
    "incompatible_change": KindPolicies(FAIL, (EVOLVE, QUARANTINE, FAIL, NEW_VERSION)),
    "key_change": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL, NEW_VERSION)),
    "table_added": KindPolicies(
        EVOLVE, (EVOLVE, QUARANTINE, FAIL), "a table that is new has no older rows to keep"
    ),
    "table_dropped": KindPolicies(
        EVOLVE,
        (EVOLVE, FAIL),
        "no event follows that could wait, and silver keeps the last rows; if a table of that name "
        "is created again, `table_recreated` decides what happens to them",
    ),
    "table_recreated": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL, NEW_VERSION)),
    "table_truncated": KindPolicies(
        EVOLVE, (EVOLVE, QUARANTINE, FAIL), "its columns and key stay as they are"
    ),
    "replica_identity": KindPolicies(
        EVOLVE, (EVOLVE, FAIL), "it changes the content of events, not the rows"
    ),
    "enum_value": KindPolicies(
        EVOLVE,
        (EVOLVE, FAIL),
        "silver holds enums as text; to keep rows with other labels out of it, write `values` "
        "for the column",
    ),
}
_UNSEEN = (
    "silver's column stays as it is. Postgres rewrote the rows without events: if that changed values "
    "(rounded, padded, cut off, by USING), silver has the old ones; `headwater verify` finds them, `headwater resync TABLE` repairs them"
)
NEW_SNAPSHOT = "to get them: `headwater resync TABLE`"


@dataclass(frozen=True)
class SchemaChange:
    """One change of one table.

    Args:
        kind: a key of POLICIES.
        detail: which column, from what to what.
        column: the column's name in the source after the change; "" for a change of the table.
        warning: what silver lacks afterwards and how to get it; "" if it lacks nothing.
        was: the column's previous name, if it was renamed.
    """

    kind: str
    detail: str
    column: str = ""
    warning: str = ""
    was: str = ""


def policy_of(evolution: object, kind: str) -> str:
    """Return the policy of a kind from the contract file's `[evolution]`, else the default."""
    return getattr(evolution, kind, None) or POLICIES[kind].default


def strictest(policies: Iterable[str]) -> str:
    """Return the policy that counts if several changes come together."""
    return max(policies, key=_STRICTNESS.index, default=EVOLVE)


def changes_between(known: Contract | None, found: Contract | None) -> list[SchemaChange]:
    """Return the changes of a table between two readings of the catalog.

    Args:
        known: the contract that silver follows, with columns that were dropped; None: no table.
        found: the contract in the catalog; None: no table.
    """
    if known is None or found is None:
        if found is not None:
            return [SchemaChange("table_added", f"{len(found.columns)} columns")]
        return [] if known is None else [SchemaChange("table_dropped", "the source dropped it")]
    known = with_catalog_numbers(known, found)
    if None not in (known.oid, found.oid) and known.oid != found.oid:
        detail = f"dropped and made again (oid {known.oid}, now {found.oid})"
        return [SchemaChange("table_recreated", detail)]
    changes = [
        *_column_changes(known, found),
        *_key_changes(known, found),
    ]
    if known.replica_identity != found.replica_identity:
        detail = f"{known.replica_identity} to {found.replica_identity}"
        changes.append(SchemaChange("replica_identity", detail, "", found.refusal or ""))
    return changes


def with_catalog_numbers(known: Contract, found: Contract) -> Contract:
    """Add column numbers and the oid of the catalog to a contract of a previous release."""
    if all(column.attnum is not None for column in known.columns):
        return known if known.oid is not None else replace(known, oid=found.oid)
    by_source = {column.source_name: column for column in found.columns}
    columns = []
    for column in known.columns:
        same = by_source.get(column.source_name)
        if column.attnum is None and same is not None:
            column = replace(column, attnum=same.attnum, labels=column.labels or same.labels)
        columns.append(column)
    return replace(known, columns=tuple(columns), oid=known.oid or found.oid)


def next_version(known: Contract | None, found: Contract) -> Contract:
    """Return the contract version after `known`; `known` itself if nothing changed.

    Columns that the source dropped stay, nullable, so that silver keeps their values. They go if a
    new column has their name.
    """
    if known is None:
        return replace(found, version=1)
    known = with_catalog_numbers(known, found)
    if known.oid == found.oid:
        names = {column.name.lower() for column in found.columns}
        numbers = {column.attnum for column in found.columns}
        dropped = tuple(
            replace(column, nullable=True, missing_value=None, dropped=True)
            for column in known.columns
            if column.name.lower() not in names
            and (column.attnum is None or column.attnum not in numbers)
        )
        columns = tuple(_with_default(column, known) for column in found.columns)
        found = replace(found, columns=columns + dropped)
    if found.fingerprint() == known.fingerprint():
        return known
    kept = (*known.previous_versions, replace(known, previous_versions=()))
    return replace(
        found, version=known.version + 1, previous_versions=kept[-PREVIOUS_VERSIONS_MAX:]
    )


# The number of versions before the newest with which events are read.
PREVIOUS_VERSIONS_MAX = 20


def _with_default(column: Column, known: Contract) -> Column:
    """Keep a column's default for older rows.

    Postgres forgets it when it rewrites the table, but old events still need it.
    """
    before = next((c for c in known.columns if c.attnum == column.attnum), None)
    if before is None or column.missing_value is not None or before.kind != column.kind:
        return column
    return replace(column, missing_value=before.missing_value)


def _column_changes(known: Contract, found: Contract) -> Iterable[SchemaChange]:
    before = {column.attnum: column for column in known.columns}
    after = {column.attnum for column in found.columns}
    for column in known.columns:
        if column.attnum not in after and not column.dropped:
            detail = f"column {column.source_name} ({column.pg_type})"
            yield SchemaChange("drop_column", detail, column.source_name)
    for column in found.columns:
        old = before.get(column.attnum)
        if old is None:
            detail = f"column {column.source_name} ({column.pg_type})"
            yield SchemaChange("add_column", detail, column.source_name, _filled(column))
            continue
        if (old.source_name, old.name) != (column.source_name, column.name):
            detail = f"column {old.source_name} to {column.source_name}"
            yield SchemaChange("rename_column", detail, column.source_name, was=old.source_name)
        yield from _type_changes(old, column)


def _filled(column: Column) -> str:
    """Return the warning of an added column whose default differs for each row."""
    if column.filled_by is None or column.missing_value is not None:
        return ""
    if "(" not in column.filled_by and "identity" not in column.filled_by:
        return ""  # a constant that was set after the column was added: older rows have NULL
    return (
        f"Postgres gave the existing rows values by `{column.filled_by}`, and no event has "
        f"these values: they are NULL in silver; {NEW_SNAPSHOT}"
    )


def _type_changes(old: Column, new: Column) -> Iterable[SchemaChange]:
    if old.pg_type != new.pg_type:
        detail = f"column {new.source_name}: {old.pg_type} to {new.pg_type}"
        if is_widening(old, new):
            yield SchemaChange("widen_type", detail, new.source_name)
        elif keeps_silver_column(old, new):
            yield SchemaChange("widen_type", detail, new.source_name, _UNSEEN)
        else:
            warning = (
                "Postgres rewrote the rows without events, and its catalog does not show how (USING); "
                f"silver casts the values it has; {NEW_SNAPSHOT}"
            )
            yield SchemaChange("incompatible_change", detail, new.source_name, warning)
    elif old.labels and old.labels != new.labels:
        added = [label for label in new.labels if label not in old.labels]
        gone = [label for label in old.labels if label not in new.labels]
        detail = f"column {new.source_name} ({new.pg_type}): "
        detail += ", ".join([*(f"+ {label}" for label in added), *(f"- {label}" for label in gone)])
        warning = ""
        if gone:
            warning = f"older rows have the label's old name; {NEW_SNAPSHOT}"
        if added or gone:
            yield SchemaChange("enum_value", detail, new.source_name, warning)


def _key_changes(known: Contract, found: Contract) -> Iterable[SchemaChange]:
    if known.key_numbers != found.key_numbers:
        detail = f"{', '.join(known.key) or 'no key'} to {', '.join(found.key) or 'no key'}"
        yield SchemaChange("key_change", detail, "", found.refusal or "")


# A greater length changes the value.
_PADDED = frozenset({"bpchar", "bit"})


def is_widening(old: Column, new: Column) -> bool:
    """Whether each value of the old type is, unchanged, one of the new type."""
    if old.is_array != new.is_array:
        return False
    if old.kind == new.kind == ARRAY:
        return is_widening(old.item, new.item)
    if old.base_type in _PADDED:
        return _limit(old) == _limit(new) and old.base_type == new.base_type
    widens_to = old.value_kind.widens_to
    if new.kind == "decimal":
        scale, new_scale = old.scale or 0, new.scale or 0
        whole = old.value_kind.digits or (old.precision or 0) - scale
        return (
            "decimal" in widens_to
            and new_scale >= scale
            and (new.precision or 0) - new_scale >= whole
        )
    if new.base_type == "numeric":  # without a precision: text here, any number fits
        return old.base_type == "numeric" and _limit(new) is None
    if new.kind == "text":
        return "text" in widens_to and new.base_type in PLAIN_TEXT_TYPES and _fits(old, new)
    if new.kind in widens_to:
        return True
    return old.base_type == new.base_type != "" and old.kind == new.kind and _fits(old, new)


def keeps_silver_column(old: Column, new: Column) -> bool:
    """Whether silver's column is the same under both types, as for a shorter varchar."""
    if old.kind == TEXT_AS_IS:
        return False  # Postgres prints the same value differently by its type
    types = [(c.kind, c.element, c.precision, c.scale) for c in (old, new)]
    return types[0] == types[1]


def _fits(old: Column, new: Column) -> bool:
    """Whether a length or precision did not shrink; no limit counts as the greatest."""
    before, after = _limit(old), _limit(new)
    return after is None or (before is not None and before <= after)


def _limit(column: Column) -> int | None:
    found = re.search(r"\((\d+)", column.pg_type)
    if found:
        return int(found.group(1))
    return 1 if column.pg_type in ("character", "bit") else None

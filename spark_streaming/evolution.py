"""What changes a source table may go through, and what is done about each: pure functions.

Two contracts of a table, before and after, make a list of `SchemaChange`s. Each is of one kind; a
kind has a default policy and alternatives (`POLICIES`), which the table's contract file chooses
from. The strictest policy of the changes that come together counts for the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from spark_streaming.contract import Contract
from spark_streaming.types import Column

EVOLVE, QUARANTINE, FAIL, NEW_VERSION = "evolve", "quarantine", "fail", "new_version"
_STRICTNESS = (EVOLVE, NEW_VERSION, QUARANTINE, FAIL)


@dataclass(frozen=True)
class KindPolicies:
    """The policies of one kind of change: the default, all that are allowed, why not the others."""

    default: str
    allowed: tuple[str, ...]
    why_not: str = ""


_NO_GENERATION = "the rows stay right as they are: there is nothing that a new table would hold"
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
        "no event follows that could wait, and silver keeps the last rows; what becomes of them when "
        "a table of that name comes again, `table_recreated` says",
    ),
    "table_recreated": KindPolicies(EVOLVE, (EVOLVE, QUARANTINE, FAIL, NEW_VERSION)),
    "table_truncated": KindPolicies(
        EVOLVE, (EVOLVE, QUARANTINE, FAIL), "its columns and key stay as they are"
    ),
    "replica_identity": KindPolicies(
        EVOLVE, (EVOLVE, FAIL), "it changes what events tell, not what the rows are"
    ),
    "enum_value": KindPolicies(
        EVOLVE,
        (EVOLVE, FAIL),
        "silver holds enums as text; to keep rows with other labels out, write `values` "
        "for the column",
    ),
}
NEW_SNAPSHOT = "ask for a new snapshot of the table to get them"


@dataclass(frozen=True)
class SchemaChange:
    """One change of one table.

    Args:
        kind: a key of POLICIES.
        detail: which column, from what to what.
        column: its name in the source, after the change; "" where it is the table's.
        warning: what is not in silver afterwards and how to get it; "": nothing.
        was: the column's name before, where it was renamed.
    """

    kind: str
    detail: str
    column: str = ""
    warning: str = ""
    was: str = ""


def policy_of(evolution: object, kind: str) -> str:
    """The policy of a kind: of the contract file's `[evolution]`, else the default."""
    return getattr(evolution, kind, None) or POLICIES[kind].default


def strictest(policies: Iterable[str]) -> str:
    """The one that counts where several changes come together."""
    return max(policies, key=_STRICTNESS.index, default=EVOLVE)


def changes_between(known: Contract | None, found: Contract | None) -> list[SchemaChange]:
    """What happened to a table between two readings of the catalog.

    Args:
        known: with the columns that were dropped before, as silver carries them; None: no table.
        found: as the catalog has it; None: no table.
    """
    if known is None or found is None:
        if found is not None:
            return [SchemaChange("table_added", f"{len(found.columns)} columns")]
        return [] if known is None else [SchemaChange("table_dropped", "the source dropped it")]
    known = identified(known, found)
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


def identified(known: Contract, found: Contract) -> Contract:
    """A contract that an earlier release kept, with the numbers that the catalog has now."""
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


def followed(known: Contract | None, found: Contract) -> Contract:
    """The version of a contract after `known`; `known` itself where nothing changed.

    Columns that the source dropped stay, nullable, so that silver keeps what it has of them,
    unless a column of their name came: silver has one of that name.
    """
    if known is None:
        return replace(found, version=1)
    known = identified(known, found)
    if known.oid == found.oid:
        names = {column.name.lower() for column in found.columns}
        there = {column.attnum for column in found.columns}
        left = tuple(
            replace(column, nullable=True, missing_value=None, dropped=True)
            for column in known.columns
            if column.name.lower() not in names
            and (column.attnum is None or column.attnum not in there)
        )
        columns = tuple(_with_default(column, known) for column in found.columns)
        found = replace(found, columns=columns + left)
    if found.fingerprint() == known.fingerprint():
        return known
    kept = (*known.earlier, replace(known, earlier=()))
    return replace(found, version=known.version + 1, earlier=kept[-EARLIER_MAX:])


# Versions back from the newest that events are still read by.
EARLIER_MAX = 20


def _with_default(column: Column, known: Contract) -> Column:
    """A table that Postgres rewrites loses its columns' defaults for older rows; events do not."""
    before = next((c for c in known.columns if c.attnum == column.attnum), None)
    if before is None or column.missing_value is not None or before.kind != column.kind:
        return column
    return replace(column, missing_value=before.missing_value)


def _column_changes(known: Contract, found: Contract) -> Iterable[SchemaChange]:
    before = {column.attnum: column for column in known.columns}
    after = {column.attnum for column in found.columns}
    for column in known.columns:
        if column.attnum not in after and not column.dropped:
            told = f"column {column.source_name} ({column.pg_type})"
            yield SchemaChange("drop_column", told, column.source_name)
    for column in found.columns:
        old = before.get(column.attnum)
        if old is None:
            told = f"column {column.source_name} ({column.pg_type})"
            yield SchemaChange("add_column", told, column.source_name, _filled(column))
            continue
        if (old.source_name, old.name) != (column.source_name, column.name):
            told = f"column {old.source_name} to {column.source_name}"
            yield SchemaChange("rename_column", told, column.source_name, was=old.source_name)
        yield from _type_changes(old, column)


def _filled(column: Column) -> str:
    """The warning of an added column whose default is another one for each row."""
    if column.filled_by is None or column.missing_value is not None:
        return ""
    if "(" not in column.filled_by and "identity" not in column.filled_by:
        return ""  # a constant that was set after the column was added: older rows have NULL
    return (
        f"Postgres gave the rows that were there values by `{column.filled_by}`, and no event "
        f"tells them: they are NULL in silver; {NEW_SNAPSHOT}"
    )


def _type_changes(old: Column, new: Column) -> Iterable[SchemaChange]:
    if old.pg_type != new.pg_type:
        told = f"column {new.source_name}: {old.pg_type} to {new.pg_type}"
        if is_widening(old, new):
            yield SchemaChange("widen_type", told, new.source_name)
        else:
            warning = (
                "Postgres rewrote the rows without events, and how (USING) is not in its catalog; "
                f"silver casts the values it has; {NEW_SNAPSHOT}"
            )
            yield SchemaChange("incompatible_change", told, new.source_name, warning)
    elif old.labels and old.labels != new.labels:
        added = [label for label in new.labels if label not in old.labels]
        gone = [label for label in old.labels if label not in new.labels]
        told = f"column {new.source_name} ({new.pg_type}): "
        told += ", ".join([*(f"+ {label}" for label in added), *(f"- {label}" for label in gone)])
        warning = ""
        if gone:
            warning = f"older rows have the label's old name; {NEW_SNAPSHOT}"
        if added or gone:
            yield SchemaChange("enum_value", told, new.source_name, warning)


def _key_changes(known: Contract, found: Contract) -> Iterable[SchemaChange]:
    before = _numbers(known, known.key)
    after = _numbers(found, found.key)
    if before != after:
        told = f"{', '.join(known.key) or 'no key'} to {', '.join(found.key) or 'no key'}"
        yield SchemaChange("key_change", told, "", found.refusal or "")


def _numbers(contract: Contract, names: Sequence[str]) -> list[object]:
    return [contract.by_name[name].attnum or name for name in names]


_DIGITS = {"int16": 5, "int32": 10, "int64": 19}
_INTEGERS = ("int16", "int32", "int64")
_TEXT_TYPES = frozenset({"text", "varchar", "citext", "name"})
# Their text is what silver holds already, and what a cast to text gives.
_SAME_AS_TEXT = frozenset({"enum", "uuid", "json", "text"})
# A greater length changes the value.
_PADDED = frozenset({"bpchar", "bit"})


def is_widening(old: Column, new: Column) -> bool:
    """Whether each value of the old type is, unchanged, one of the new type."""
    if old.kind == "array" and new.kind == "array":
        return is_widening(_element(old), _element(new))
    if old.kind in _INTEGERS and new.kind in _INTEGERS:
        return _INTEGERS.index(old.kind) <= _INTEGERS.index(new.kind)
    if (old.kind, new.kind) == ("float32", "float64"):
        return True
    if new.kind == "decimal":
        whole = (new.precision or 0) - (new.scale or 0)
        if old.kind in _DIGITS:
            return whole >= _DIGITS[old.kind]
        scale = old.scale or 0
        return (
            old.kind == "decimal"
            and (new.scale or 0) >= scale
            and whole >= (old.precision or 0) - scale
        )
    if new.base_type == "numeric":  # without a precision: text here, any number fits
        return old.base_type == "numeric" and _limit(new) is None
    if new.base_type in _TEXT_TYPES and old.kind in _SAME_AS_TEXT and old.base_type != "bpchar":
        return _fits(old, new)
    if old.base_type in _PADDED:
        return _limit(old) == _limit(new) and old.base_type == new.base_type
    return old.base_type == new.base_type != "" and old.kind == new.kind and _fits(old, new)


def _element(column: Column) -> Column:
    return replace(column, kind=column.element or "", element=None)


def _fits(old: Column, new: Column) -> bool:
    """Whether a length or precision did not become less; none is the greatest."""
    before, after = _limit(old), _limit(new)
    return after is None or (before is not None and before <= after)


def _limit(column: Column) -> int | None:
    found = re.search(r"\((\d+)", column.pg_type)
    if found:
        return int(found.group(1))
    return 1 if column.pg_type in ("character", "bit") else None

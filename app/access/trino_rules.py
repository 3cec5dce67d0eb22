"""Makes Trino's file rules: roles, users and the classes of columns in, `rules.json` out. Pure.

A user who does not see everything has a rule for each known table, by its full name, and for nothing else: a table
that nobody has classified yet, its `$`-tables, a copy, another schema are
refused because no rule names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.access.accounts import own_schema
from app.access.roles import Role, RowFilter
from app.environment.trino_accounts import ACCOUNTS, PROMETHEUS, REGISTRAR, SUPERSET, UNMASKED
from spark_streaming.contract.contract_files import Classification

RULES = "rules.json"  # in the home's folder `access`
MASK = "***"
# Those that the stack writes, and nobody else.
_KEPT = "(silver|ops|history)(_.+)?|reports"
_CHANGES = ["INSERT", "DELETE", "UPDATE"]
Rule = dict[str, Any]


@dataclass(frozen=True)
class ClassifiedTable:
    """A table or view as Trino has it: the class and the type of each column, by its name in lower case.

    `reads`: the tables and views that a view reads, directly or not, as `schema.name`; of a history, its table.
    """

    classes: Mapping[str, Classification]
    types: Mapping[str, str] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()


def closed_rules() -> str:
    """Return the rules before anything is known: the stack's own accounts work, people see nothing."""
    return rules_text({}, {}, {})


def rules_text(
    roles: Mapping[str, Role],
    people: Mapping[str, str],
    tables: Mapping[str, ClassifiedTable],
) -> str:
    """Return the text of `rules.json`; the same input gives the same text.

    Args:
        people: name → role.
        tables: all that Trino has, by `schema.name`.
    """
    everything = sorted(name for name, role in roles.items() if role.sees_all)
    some = {name: role for name, role in sorted(roles.items()) if not role.sees_all}
    owners = {"group": _either(n for n in everything if roles[n].writes == "anywhere")}
    seers = {"group": _either(everything)}
    rules: dict[str, list[Rule]] = {
        "catalogs": [
            {"user": _either(UNMASKED), "allow": "all"},
            {**owners, "allow": "all"},
            {"catalog": "lake", "group": _either(sorted(roles)), "allow": "all"},
            {"catalog": "system", "group": _either(sorted(roles)), "allow": "read-only"},
            {"catalog": "lake|system", "user": SUPERSET, "allow": "read-only"},
        ],
        "schemas": [
            {"user": REGISTRAR, "owner": True},
            {"catalog": "lake", "schema": _KEPT, "owner": False},
            {"user": _either(UNMASKED), "owner": True},
            {**owners, "owner": True},
            {"owner": False},
        ],
        "tables": [
            *_for_the_unmasked({"user": _either(UNMASKED)}),
            *_for_the_unmasked(owners),
            {**seers, "privileges": ["SELECT"]},
            *_own_tables(roles, people),
            *(rule for name, role in some.items() for rule in _tables(name, role, tables)),
            {"catalog": "system", "group": _either(some), "privileges": ["SELECT"]},
            {"privileges": []},
        ],
        # Trino's own functions need no rule. `table_changes` is none of them, and knows no masks.
        "functions": [
            {"user": _either(UNMASKED), "privileges": ["EXECUTE", "GRANT_EXECUTE", "OWNERSHIP"]},
            {**owners, "privileges": ["EXECUTE", "GRANT_EXECUTE", "OWNERSHIP"]},
            {**seers, "privileges": ["EXECUTE"]},
            {"privileges": []},
        ],
        "procedures": [
            {"user": REGISTRAR, "privileges": ["EXECUTE"]},
            {"catalog": "system", "schema": "runtime", "procedure": "kill_query", "privileges": ["EXECUTE"]},
            {**owners, "catalog": "lake", "schema": "system", "procedure": "flush_metadata_cache", "privileges": ["EXECUTE"]},
            {"user": _either(UNMASKED), "catalog": "lake", "schema": "system", "procedure": "flush_metadata_cache", "privileges": ["EXECUTE"]},
            {"privileges": []},
        ],
        # Texts of queries may hold what the tables hide. One's own need no rule.
        "queries": [
            {"user": _either(UNMASKED), "allow": ["execute", "kill", "view"]},
            {**owners, "allow": ["execute", "kill", "view"]},
            {"allow": ["execute"]},
        ],
        "impersonation": [
            # No `$` here: Trino takes it for a group of the first pattern.
            {"original_user": ".*", "new_user": _either(ACCOUNTS), "allow": False},
            {"original_user": SUPERSET, "new_user": ".*"},
            {"original_user": ".*", "new_user": ".*", "allow": False},
        ],
        "system_information": [{"user": PROMETHEUS, "allow": ["read"]}],
    }  # fmt: skip
    kept = {kind: [one for one in of if one.get("group") != ""] for kind, of in rules.items()}
    return json.dumps(kept, indent=1, ensure_ascii=True) + "\n"


def mask_of(kind: str) -> str:
    """Return the SQL that replaces a masked column: a text for text, NULL for anything else."""
    if kind.startswith(("varchar", "char")):
        return f"CAST('{MASK}' AS {kind})"
    return "NULL"


def _for_the_unmasked(who: Rule) -> list[Rule]:
    """Like the rules of an open stack: the registrar writes the shared schemas, others read them."""
    own = {"user": REGISTRAR, "privileges": ["OWNERSHIP", "GRANT_SELECT", "SELECT"]}
    return [
        *([own] if "user" in who else []),
        {**who, "catalog": "lake", "schema": _KEPT, "privileges": ["SELECT", "GRANT_SELECT"]},
        {**who, "privileges": ["OWNERSHIP", "GRANT_SELECT", "SELECT", *_CHANGES]},
    ]


def _own_tables(roles: Mapping[str, Role], people: Mapping[str, str]) -> list[Rule]:
    return [
        {
            "user": _literal(name),
            "catalog": "lake",
            "schema": _literal(own_schema(name)),
            "privileges": ["OWNERSHIP", "SELECT", *_CHANGES],
        }
        for name, role in sorted(people.items())
        if role in roles and roles[role].writes == "own"
    ]


def _tables(name: str, role: Role, tables: Mapping[str, ClassifiedTable]) -> list[Rule]:
    filtered = {one.table.lower(): one for one in role.filters}
    if not filtered.keys() <= tables.keys():
        return []  # it may be misspelt: which rows are to be left out is not known
    found = []
    for table, known in sorted(tables.items()):
        schema, _, plain = table.partition(".")
        # A view shows rows of its tables by its owner's rights, and a history has older rows: no filter
        # would hold there.
        if not role.reads(schema) or not filtered.keys().isdisjoint(known.reads):
            continue
        if known.classes and {role.treatment(one) for one in known.classes.values()} == {"hide"}:
            continue
        found.append(_table(name, role, schema, plain, known, filtered.get(table)))
    return found


def _table(
    name: str, role: Role, schema: str, table: str, known: ClassifiedTable, rows: RowFilter | None
) -> Rule:
    columns = []
    for column, kind in sorted(known.classes.items()):
        treatment = role.treatment(kind)
        if treatment == "hide":
            columns.append({"name": column, "allow": False})
        elif treatment == "mask":
            columns.append({"name": column, "mask": mask_of(known.types.get(column, ""))})
    rule: Rule = {
        "group": _literal(name),
        "catalog": "lake",
        "schema": _literal(schema),
        "table": _literal(table),
        "privileges": ["SELECT"],
    }
    if columns:
        rule["columns"] = columns
    if rows is not None:
        rule["filter"] = rows.where
    return rule


def _literal(name: str) -> str:
    """Return the Java pattern of exactly this name."""
    return re.sub(r"([^\w])", r"\\\1", name)


def _either(names: Any) -> str:
    return "|".join(_literal(name) for name in names)

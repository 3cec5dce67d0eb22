"""Names that the source, the topics and the lake share."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Delta refuses these in column names, and SQL engines want plain words in table names.
_NOT_PLAIN = re.compile(r"[^0-9a-z_]+")
_NOT_TOPIC = re.compile(r"[^a-zA-Z0-9._-]")
METADATA_COLUMNS = ("_lsn", "_committed_at", "_merged_at")


def silver_table(schema: str, table: str) -> str:
    """The silver table of a source table: lower case, `<schema>__<table>` outside `public`.

    Two source tables may end at one name (`Orders` and `orders`): see `collisions`.
    """
    plain = table if schema == "public" else f"{schema}__{table}"
    return _NOT_PLAIN.sub("_", plain.lower())


def collisions(tables: Iterable[tuple[str, str]]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """The source tables that would share a silver table with an earlier one: (later, earlier)."""
    owners: dict[str, tuple[str, str]] = {}
    found = []
    for schema, table in sorted(tables):
        owner = owners.setdefault(silver_table(schema, table), (schema, table))
        if owner != (schema, table):
            found.append(((schema, table), owner))
    return found


def topic_of(prefix: str, schema: str, table: str) -> str:
    """The Kafka topic that Debezium gives a table: what a topic may not hold becomes `_`."""
    return _NOT_TOPIC.sub("_", f"{prefix}.{schema}.{table}")


def parse_topic(topic: str, prefix: str) -> tuple[str, str] | None:
    """The (schema, table) of a table's topic, or None for a topic that is no table's.

    Names hold what Debezium left of them (see `topic_of`); the first dot ends the schema.
    """
    head = f"{prefix}."
    if not topic.startswith(head):
        return None
    schema, dot, table = topic[len(head) :].partition(".")
    return (schema, table) if dot and schema and table else None


def silver_columns(names: Iterable[str]) -> list[str]:
    """The silver column of each source column, in order.

    A name stays as it is (also its case) unless Delta refuses one of its characters, or it would
    be an earlier one's or a metadata column's in another case: then `_` and a number follow.
    """
    taken = {name.lower() for name in METADATA_COLUMNS}
    result = []
    for name in names:
        base = re.sub(r"[ ,;{}()\n\t=.`\"]", "_", name)
        # Names that start so are the folded rows' own (`_op`, `_guard_lsn`, `_keep_...`).
        if re.match(r"(?i)_op$|_guard_lsn$|_keep_", base):
            base = f"col{base}"
        candidate, number = base, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{base}_{number}"
        taken.add(candidate.lower())
        result.append(candidate)
    return result


def differ_in_case(columns: Iterable[str]) -> list[str]:
    """The names of columns that differ in case only, those of one name together: `a, A`."""
    same: dict[str, list[str]] = {}
    for name in columns:
        same.setdefault(name.lower(), []).append(name)
    return sorted(", ".join(names) for names in same.values() if len(names) > 1)

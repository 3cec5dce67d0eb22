"""Names of tables, topics and columns in the source, in Kafka and in the lake."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

# Table names should be plain words in SQL. Trino's file metastore does not return `'`, `"`, `%`,
# `/` and `\\` unchanged, and reads a name with `$` as that of another table.
_NOT_PLAIN = re.compile(r"[^0-9a-z_]+")
# Zero-width joiners are part of letters in some scripts, and of some emoji.
_JOINERS = "\u200c\u200d"
# Separators, controls, private and unassigned characters cannot be seen or typed in a name.
_NO_LETTERS = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"})
_NOT_TOPIC = re.compile(r"[^a-zA-Z0-9._-]")
# The property of a stream's silver table that names the stream.
STREAM = "headwater.stream"
# The schema of the heartbeat and signal tables: captured, never merged.
INTERNAL_SCHEMA = "headwater"
METADATA_COLUMNS = ("_lsn", "_committed_at", "_merged_at")
# Behind a table's own columns in `lake.history`.
HISTORY_COLUMNS = (
    "_lsn",
    "_operation",
    "_valid_from_lsn",
    "_valid_to_lsn",
    "_valid_from",
    "_valid_to",
    "_ended_by",
    "_quarantined",
    "_is_current",
)


def silver_table(schema: str, table: str) -> str:
    """Return the silver name of a new source table: lower case, `<schema>__<table>` unless `public`.

    Letters, digits and symbols beyond ASCII stay; each run of other characters becomes `_`. A table
    of a previous release may have another name (`silver_names`). Two source tables may get the same
    name (`Orders` and `orders`): see `collisions` and `ownership`.
    """
    plain = table if schema == "public" else f"{schema}__{table}"
    # Lower case comes first, because it can turn one character into several.
    return re.sub("\0+", "_", "".join(c if _stays(c) else "\0" for c in plain.lower()))


def ascii_silver_table(schema: str, table: str) -> str:
    """Return the name by the rule of previous releases, which kept only ASCII letters."""
    plain = table if schema == "public" else f"{schema}__{table}"
    return _NOT_PLAIN.sub("_", plain.lower())


def _stays(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character == "_"
    return character in _JOINERS or unicodedata.category(character) not in _NO_LETTERS


class Collision(NamedTuple):
    """A source table that would share a name with another table.

    Args:
        table: (schema, table) of the table that cannot have the name.
        owner: (schema, table) of the table that has it.
        in_kafka: whether they share the topic's name. Both tables' events would then be in one
            topic, or Kafka would refuse the second topic and the connector would stop. If False,
            they share the name of the silver table.
    """

    table: tuple[str, str]
    owner: tuple[str, str]
    in_kafka: bool

    @property
    def reason(self) -> str:
        """The name that the two tables share, and what to do."""
        what = (
            "would share its Kafka topic (where `.` and `_` are one) with"
            if self.in_kafka
            else "would share its silver table with"
        )
        return f"{what} {'.'.join(self.owner)}: rename one of them"


def collisions(
    tables: Iterable[tuple[str, str]], names: Callable[[str, str], str] | None = None
) -> list[Collision]:
    """Return the source tables that would share a name with an earlier table of the list.

    Args:
        tables: (schema, table) of each; the first table of a name keeps it.
        names: returns a table's silver name; needed if the lake has names of previous releases.
    """
    name_of = names or silver_table
    owners: dict[str, tuple[str, str]] = {}
    found = []
    for table in tables:
        # Kafka treats `.` and `_` as the same character when it compares topic names.
        topic = topic_of("", *table).replace(".", "_")
        silver = f"silver {name_of(*table)}"
        owner = owners.get(topic) or owners.get(silver)
        if owner is not None:
            found.append(Collision(table, owner, topic in owners))
            continue
        owners[topic] = owners[silver] = table
    return found


def topic_of(prefix: str, schema: str, table: str) -> str:
    """Return a table's Kafka topic, as Debezium names it: characters that Kafka refuses become `_`.

    A character beyond the first 65,536 becomes two `_`, because Java counts it as two.
    """
    return _NOT_TOPIC.sub(
        lambda found: "_" * (1 + (ord(found[0]) > 0xFFFF)), f"{prefix}.{schema}.{table}"
    )


def parse_topic(topic: str, prefix: str) -> tuple[str, str] | None:
    """Return the (schema, table) in a topic's name, or None if the topic is not that of a table.

    Debezium may have changed the names (see `topic_of`). The first dot ends the schema.
    """
    head = f"{prefix}."
    if not topic.startswith(head):
        return None
    schema, dot, table = topic[len(head) :].partition(".")
    return (schema, table) if dot and schema and table else None


def silver_columns(names: Iterable[str]) -> list[str]:
    """Return the silver column of each source column, in order.

    A name stays as it is, with its case. Characters that Delta refuses become `_`. A name that
    equals a previous column or a metadata column, apart from case, gets `_` and a number.
    """
    taken = {name.lower() for name in METADATA_COLUMNS}
    result = []
    for name in names:
        base = re.sub(r"[ ,;{}()\n\t=.`\"]", "_", name)
        # Folded rows have columns of such names themselves (`_op`, `_guard_lsn`, `_keep_...`).
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
    """Return columns whose names differ only in case, each group as one text: `a, A`."""
    same: dict[str, list[str]] = {}
    for name in columns:
        same.setdefault(name.lower(), []).append(name)
    return sorted(", ".join(names) for names in same.values() if len(names) > 1)


def stream_mark(name: str) -> str:
    """Return the description of a stream's table if its contract gives none."""
    return f"headwater stream {name}"


def is_stream(name: str, description: str | None, properties: Mapping[str, str | None]) -> bool:
    """Whether a Delta table is that of the stream `name`.

    Its property says so, or its description if an earlier release made the table.
    """
    return properties.get(STREAM) == name or description == stream_mark(name)

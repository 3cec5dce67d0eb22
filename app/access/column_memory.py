"""Which class each column has, and had: a table's columns over time, in `access/columns.json` of the home.

1. A class that a contract file, or the table itself, declares counts, and is remembered.
2. A column without one is `internal`, if it existed when the table was first seen.
3. A later column beside a personal or sensitive one is `personal` until its class is declared.
4. Removing a declaration changes nothing; only another declaration does.
5. A removed column is remembered, because older versions of the table still have it.
6. A copy (`NAME__v2`, `NAME__at_…`) has for each column the strictest of its own class and that of `NAME`;
   so has the history of a table (`history.NAME` of `silver.NAME`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from app.environment.settings import write_private
from spark_streaming.contract.contract_files import Classification

CLASSES: tuple[Classification, ...] = get_args(Classification)  # the strictest last
UNCLASSIFIED: Classification = "internal"
HISTORY = "history"  # the schema
NEW_BESIDE_PERSONAL: Classification = "personal"
_COPY = re.compile(r"(.+?)__(?:v\d+|at_.+)")

Classes = dict[str, Classification]


class ColumnMemory:
    """The classes of all columns of all tables; `file` keeps them over restarts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tables: dict[str, Classes] = json.loads(file.read_text()) if file.exists() else {}
        self._saved = json.dumps(self._tables, sort_keys=True)

    def classes(
        self, table: str, columns: Iterable[str], declared: Mapping[str, Classification]
    ) -> Classes:
        """Return the class of each column that `table` has or had.

        Args:
            table: `schema.name`, as Trino has it.
            columns, declared: its current and its declared columns, by names in lower case.
        """
        copied = self._tables.get(_original(table), {}) if _original(table) else {}
        known = self._tables.get(table)
        seen_before = known is not None or bool(copied)
        found: Classes = dict(known or {})
        found.update(declared)
        personal = any(is_personal(one) for one in [*found.values(), *copied.values()])
        for column in columns:
            if column not in found and column not in copied:
                later = seen_before and personal
                found[column] = NEW_BESIDE_PERSONAL if later else UNCLASSIFIED
        for column, kind in copied.items():
            found[column] = strictest([kind, found.get(column, kind)])
        self._tables[table] = found
        return dict(found)

    def knows(self, table: str) -> bool:
        """Check whether the table was seen before."""
        return table in self._tables

    def save(self) -> None:
        """Write the changes; call it before rules that depend on them are in force."""
        now = json.dumps(self._tables, sort_keys=True)
        if now != self._saved:
            write_private(self._file, now)
            self._saved = now


def strictest(kinds: Iterable[Classification]) -> Classification:
    """Return the strictest class of these; `internal` if there is none."""
    return max(kinds, key=CLASSES.index, default=UNCLASSIFIED)


def is_personal(kind: Classification) -> bool:
    """Check whether a class is about people, or stricter."""
    return CLASSES.index(kind) >= CLASSES.index("personal")


def _original(table: str) -> str:
    schema, _, name = table.partition(".")
    if schema == HISTORY:
        return f"silver.{name}"
    match = _COPY.fullmatch(name)
    return f"{schema}.{match[1]}" if match else ""

"""Computes SQL conditions on Arrow rows, with DuckDB inside this process.

A row breaks a condition if it is false or cannot be computed for the row (a cast fails, a division
by zero). As in an SQL CHECK, a condition that is NULL holds.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from spark_streaming.contract.contract_files import near

_VIEW = "candidates"
_MEMORY = "256MB"


class ConditionError(ValueError):
    """A text is not a valid condition on these columns; `hint` may suggest the intended name."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Rule:
    """One condition that rows must not break.

    Args:
        name: unique within the table; shown in quarantine, ledger and metrics.
        action: warn | quarantine | fail.
        condition: SQL over the table's columns, as silver names them.
        columns: the columns that it reads.
    """

    name: str
    action: str
    condition: str
    columns: tuple[str, ...]


class _Engine:
    """One in-memory DuckDB for the process, made at first use; each use takes a cursor of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database: Any = None

    def cursor(self) -> Any:
        with self._lock:
            if self._database is None:
                self._database = _open()
            return self._database.cursor()


def _open() -> Any:
    # A condition comes from a file: it may compute, but must not reach anything outside its row.
    # One thread is enough: batches are small, and tables are judged in parallel already.
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": "1",
        "memory_limit": _MEMORY,
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    database = duckdb.connect(":memory:", config=settings)
    database.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
    return database


_ENGINE = _Engine()


def broken(rows: pa.Table, rules: Sequence[Rule]) -> list[pa.Array]:
    """Return, for each rule, a boolean array without nulls: which rows break it.

    Args:
        rows: holds all columns that the rules read.
    Raises: ConditionError if a condition does not fit the rows' columns.
    """
    if not rules or not rows.num_rows:
        return [pa.array([], pa.bool_()).cast(pa.bool_()) for _ in rules]
    wanted = sorted({name for rule in rules for name in rule.columns})
    terms = ", ".join(f"{_breaks(rule.condition)} AS r{i}" for i, rule in enumerate(rules))
    found = _query(f"SELECT {terms} FROM {_VIEW}", rows.select(wanted or rows.column_names[:1]))
    return [column.combine_chunks() for column in found.columns]


def checked(condition: str, schema: pa.Schema) -> tuple[str, ...]:
    """The columns that a condition reads, by their names in `schema`.

    Raises: ConditionError if it is not a boolean expression over these columns, or if it has an
        aggregate, a subquery, a volatile function, or another statement in it.
    """
    parts = _read_columns(condition)
    known = {name.lower(): name for name in schema.names}
    probe = f"SELECT {_breaks(condition)}, typeof(({condition}\n)) FROM {_VIEW}"
    empty_row = pa.table({field.name: pa.nulls(1, field.type) for field in schema})
    try:
        kind = _query(probe, empty_row).column(1)[0].as_py()
    except ConditionError as error:
        missing = re.search(r'Referenced column "(.+?)" not found', str(error))
        if missing is None:
            raise
        message = f"there is no column `{missing.group(1)}` in the table"
        raise ConditionError(message, near(missing.group(1), schema.names)) from error
    if kind not in ("BOOLEAN", '"NULL"'):
        raise ConditionError(
            f"it gives {kind}, not true or false", "compare it with something, as `… > 0`"
        )
    # Names that are not columns are DuckDB's own: a lambda's parameter, `current_date`.
    return tuple(dict.fromkeys(known[part.lower()] for part in parts if part.lower() in known))


def _breaks(condition: str) -> str:
    # The line break ends a comment in the condition. TRY makes NULL of an error.
    return f"NOT coalesce(TRY(({condition}\n) IS NOT FALSE), FALSE)"


def _query(sql: str, rows: pa.Table) -> pa.Table:
    cursor = _ENGINE.cursor()
    try:
        cursor.register(_VIEW, rows)
        return cursor.execute(sql).to_arrow_table()
    except duckdb.Error as error:
        raise ConditionError(*_message(error)) from error
    finally:
        cursor.close()


def _read_columns(condition: str) -> list[str]:
    """The names in a condition's column references, as DuckDB's own parser has them."""
    cursor = _ENGINE.cursor()
    try:
        text = f"SELECT ({condition}\n) FROM {_VIEW}"
        [found] = cursor.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchone()
    except duckdb.Error as error:
        raise ConditionError(*_message(error)) from error
    finally:
        cursor.close()
    tree = json.loads(found)
    if tree.get("error"):
        raise ConditionError(f"it is not SQL: {str(tree.get('error_message')).splitlines()[0]}")
    statements = tree.get("statements", [])
    if len(statements) != 1 or len(statements[0]["node"].get("select_list", [])) != 1:
        raise ConditionError("it holds more than one expression", "write one condition per rule")
    columns: list[str] = []
    _walk(statements[0]["node"], columns)
    return columns


def _walk(node: Any, columns: list[str]) -> None:
    if isinstance(node, dict):
        if node.get("class") == "SUBQUERY":
            raise ConditionError(
                "it holds a subquery", "a condition sees only its own row; see `references`"
            )
        if node.get("class") == "COLUMN_REF":
            columns.extend(node["column_names"])
        for value in node.values():
            _walk(value, columns)
    elif isinstance(node, list):
        for value in node:
            _walk(value, columns)


def _message(error: Exception) -> tuple[str, str]:
    """DuckDB's message and hint, without the statement built around the condition."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    hints = [line for line in lines[1:] if line.startswith(("Candidate", "Did you mean", "HINT"))]
    message = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", message)
    return message.replace("TRY expression", "condition"), hints[0] if hints else ""

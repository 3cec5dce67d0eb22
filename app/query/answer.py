"""Formats a Trino answer: a table for people, CSV or JSON for programs; exact for every type.

Values arrive in Trino's own JSON form: decimals, times and unusual floats as text (so that no
reader loses a digit), varbinary as base64. They are printed in this form, with two exceptions: a
JSON column is printed as that JSON, and a time stamp in UTC ends in `+00:00`, which every language
parses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

FORMATS = ("table", "csv", "json")
TABLE_ROWS_MAX = 10_000  # a table must be in memory to be aligned
CELL_CHARS_MAX = 120
_RIGHT_ALIGNED = {"tinyint", "smallint", "integer", "bigint", "decimal", "real", "double"}

Row = Sequence[Any]


@dataclass(frozen=True)
class Type:
    """A Trino type: its name without parameters, its element types, and a row's field names."""

    name: str
    parts: tuple[Type, ...] = ()
    fields: tuple[str | None, ...] = ()

    @classmethod
    def from_signature(cls, signature: dict[str, Any]) -> Type:
        """Parse the `typeSignature` of Trino's client protocol."""
        parts: list[Type] = []
        fields: list[str | None] = []
        for argument in signature.get("arguments", []):
            value = argument.get("value")
            if argument.get("kind") == "TYPE":
                parts.append(cls.from_signature(value))
            elif argument.get("kind") == "NAMED_TYPE":
                parts.append(cls.from_signature(value["typeSignature"]))
                name = value.get("fieldName") or {}
                fields.append(name.get("name"))
        return cls(signature["rawType"], tuple(parts), tuple(fields))


@dataclass(frozen=True)
class Column:
    """One column of an answer."""

    name: str
    type: Type = field(default_factory=lambda: Type("varchar"))


def read_columns(columns: Iterable[dict[str, Any]]) -> list[Column]:
    """Parse the columns of the client protocol; a repeated name gets `_2`, `_3`, … added."""
    read: list[Column] = []
    taken: set[str] = set()
    for column in columns:
        name, number = column["name"], 1
        while name in taken:
            number += 1
            name = f"{column['name']}_{number}"
        taken.add(name)
        read.append(Column(name, Type.from_signature(column["typeSignature"])))
    return read


def csv_lines(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yield RFC 4180 lines with a header; NULL is an empty cell, an empty text is `""`."""
    yield ",".join(_csv_cell(column.name) for column in columns)
    for row in rows:
        yield ",".join(
            "" if value is None else _csv_cell(text(value, column.type))
            for value, column in zip(row, columns, strict=True)
        )


def json_lines(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a JSON array with an object for each row, one row in each line."""
    before = "["
    for row in rows:
        cells = (
            f"{json.dumps(column.name, ensure_ascii=False)}: {json_text(value, column.type)}"
            for value, column in zip(row, columns, strict=True)
        )
        yield before + "{" + ", ".join(cells) + "}"
        # Write the comma before the next row, because which row is the last is known only at the end.
        before = " ,"
    yield "]" if before == " ," else "[]"


def table_lines(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    """Yield aligned lines for people: long cells are cut (…), NULL is spelled out.

    A single text of several lines (EXPLAIN, SHOW CREATE) is printed as it is.
    """
    if len(columns) == 1 and len(rows) == 1 and "\n" in str(rows[0][0]):
        yield from str(rows[0][0]).splitlines()
        return
    names = [_table_cell(column.name) for column in columns]
    cells = [
        [
            "NULL" if value is None else _table_cell(text(value, column.type))
            for value, column in zip(row, columns, strict=True)
        ]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in [names, *cells]) for i in range(len(columns))]
    right = [column.type.name in _RIGHT_ALIGNED for column in columns]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    yield line(names)
    yield "  ".join("-" * width for width in widths)
    yield from map(line, cells)


def text(value: Any, of: Type) -> str:
    """Format a value that is not NULL for tables and CSV."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json_text(value, of)
    return _in_utc(str(value), of)


def json_text(value: Any, of: Type) -> str:
    """Format a value as JSON."""
    if value is None:
        return "null"
    if of.name == "json":
        return str(value)
    if of.name == "array":
        return "[" + ", ".join(json_text(item, of.parts[0]) for item in value) + "]"
    if of.name == "map":
        pairs = (
            f"{json.dumps(str(key), ensure_ascii=False)}: {json_text(item, of.parts[1])}"
            for key, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if of.name == "row":
        return _json_row(value, of)
    if isinstance(value, str):
        value = _in_utc(value, of)
    return json.dumps(value, ensure_ascii=False)


def _json_row(value: Row, of: Type) -> str:
    items = [json_text(item, part) for item, part in zip(value, of.parts, strict=True)]
    if not of.fields or None in of.fields:
        return "[" + ", ".join(items) + "]"
    names = [json.dumps(name, ensure_ascii=False) for name in of.fields]
    return "{" + ", ".join(f"{n}: {i}" for n, i in zip(names, items, strict=True)) + "}"


def _in_utc(value: str, of: Type) -> str:
    if of.name.endswith("with time zone") and value.endswith(" UTC"):
        return value.removesuffix(" UTC") + "+00:00"
    return value


def _csv_cell(value: str) -> str:
    if value == "" or any(character in value for character in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _table_cell(value: str) -> str:
    # A control character would break the line, or the terminal.
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    return plain if len(plain) <= CELL_CHARS_MAX else plain[: CELL_CHARS_MAX - 1] + "…"

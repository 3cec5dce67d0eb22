"""Makes, fills and changes tables of unusual shapes and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

# Names that could break a part of the chain: SQL, JSON, topics, folders, Delta, Trino.
COLUMN_NAMES = (
    "select", "Mixed Case", "naïve_ß_列", "ø" * 31 + "x", "a b,c;d{e}f(g)h=i", "dot.ted", 'quo"te',
    "back`tick", "tab\there", "line\nbreak", "percent%s", "dollar$", "back\\slash", "'single'",
    "_lsn", "_committed_at", "_merged_at", "_guard_lsn", "_keep_x", "x", "_op", "op",
    "before", "after", "source", "ts_ms", "transaction", "__deleted", "__op", "schema", "payload",
    "topic", "partition", "offset", "value", "key", "null", "true",
)  # fmt: skip
TABLE_NAMES = (
    "select", "user", "Mixed Case", "ünïcode täble", "t" * 63, "dot.ted", 'quo"te', "with-dash",
    "dollar$", "1st", "_lsn", "before", "back\\slash", "'single'", "percent%s", "headwater",
    "заказы", "日本\N{GRINNING FACE}",
)  # fmt: skip
# Names whose letters silver keeps.
LETTERS = (
    ("id", "int"), ("größe in m", "numeric(12,2)"), ("имя", "text"), ("smile\N{GRINNING FACE}", "text"),
)  # fmt: skip
WIDE_COLUMNS = 300


@dataclass(frozen=True)
class OddTable:
    """One table of the source, with its name in silver.

    Args:
        columns: (name, type), including the key's; key: names, empty for a bag of rows.
    """

    schema: str
    name: str
    silver: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Make the table; without a key its replica identity is FULL."""
        if self.schema != "public":
            connection.execute(
                sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.schema))
            )
        parts = [sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in self.columns]
        if self.key:
            parts.append(sql.SQL("PRIMARY KEY ({})").format(_names(self.key)))
        body = sql.SQL(", ").join(parts)
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(self.identifier, body))
        if not self.key:
            full = sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(self.identifier)
            connection.execute(full)

    def insert(self, connection: psycopg.Connection[Any], number: int) -> None:
        """A row whose values all depend on `number`."""
        values = [_value(kind, number) for _, kind in self.columns]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            self.identifier,
            _names([name for name, _ in self.columns]),
            sql.SQL(", ").join(map(sql.Literal, values)),
        )
        connection.execute(statement)

    def change(self, connection: psycopg.Connection[Any]) -> None:
        """Insert rows 11 and 12, then give 11 a text and 12 another key, and delete 1."""
        for number in (11, 12):
            self.insert(connection, number)
        first = self.columns[0][0]
        text = next(name for name, kind in reversed(self.columns) if kind == "text")
        for place, number, literal in ((text, 11, "changed"), (first, 12, "77")):
            connection.execute(
                sql.SQL("UPDATE {} SET {} = {} WHERE {} = {}").format(
                    self.identifier, sql.Identifier(place), sql.Literal(literal),
                    sql.Identifier(first), sql.Literal(_value(self.columns[0][1], number)),
                )
            )  # fmt: skip
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE {} = {}").format(
                self.identifier, sql.Identifier(first), sql.Literal(_value(self.columns[0][1], 1))
            )
        )

    def rows(self, connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
        """All rows, in the order of their texts."""
        names = _names([name for name, _ in self.columns])
        found = connection.execute(sql.SQL("SELECT {} FROM {}").format(names, self.identifier))
        return sorted((tuple(map(_as_in_trino, row)) for row in found), key=str)


def odd_tables() -> list[OddTable]:
    """A table with odd columns, one for each odd name, a wide table, and tables with odd and without keys."""
    odd_columns = tuple((name, "text") for name in COLUMN_NAMES)
    plain = (("id", "int"), ("v", "text"))
    wide = tuple(
        (f"c{n:03}", ("int", "text", "numeric(12,2)")[n % 3]) for n in range(WIDE_COLUMNS - 1)
    )
    return [
        OddTable("public", "odd_columns", "odd_columns", (("id", "int"), *odd_columns), ("id",)),
        *(OddTable("public", name, _silver(name), plain, ("id",)) for name in TABLE_NAMES),
        OddTable("My Schema", "Order", "my_schema__order", plain, ("id",)),
        OddTable("ünï", "täble", "ünï__täble", LETTERS, ("id",)),
        OddTable("public", "wide", "wide", (("id", "int"), *wide), ("id",)),
        OddTable(
            "public", "odd_key", "odd_key",
            (("Key One", "int"), ("dot.ted", "text"), ("op", "uuid"), ("v", "text")),
            ("dot.ted", "Key One", "op"),
        ),
        OddTable("public", "key_only", "key_only", (("a", "int"), ("b", "text")), ("b", "a")),
        OddTable("public", "Bag of Rows", "bag_of_rows", (("_lsn", "int"), ("v", "text")), ()),
    ]  # fmt: skip


def _silver(name: str) -> str:
    """A table's name in silver, given explicitly and not computed like in the product."""
    known = {
        "Mixed Case": "mixed_case",
        "ünïcode täble": "ünïcode_täble",
        "dot.ted": "dot_ted",
        'quo"te': "quo_te",
        "with-dash": "with_dash",
        "dollar$": "dollar_",
        "back\\slash": "back_slash",
        "'single'": "_single_",
        "percent%s": "percent_s",
    }
    return known.get(name, name)


def _as_in_trino(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _names(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _value(kind: str, number: int) -> Any:
    if kind == "int":
        return number
    if kind == "uuid":
        return f"00000000-0000-0000-0000-{number:012}"
    return f"{number}.5" if kind.startswith("numeric") else f"text {number}"

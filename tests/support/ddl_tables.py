"""Random tables as the workload remembers them, and the parts of statements about them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from tests.support.ddl_values import MAKE, MOODS, ddl

ROWS_MAX = 400


@dataclass
class Column:
    """A column as the workload remembers it."""

    kind: str
    default: bool = False


@dataclass
class Table:
    """A table as the workload remembers it; without a key it is a bag of rows."""

    name: str
    columns: dict[str, Column]
    key: list[str]
    partitioned: bool = False
    checks: list[str] = field(default_factory=list)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.name)

    def free(self) -> list[str]:
        """Columns outside of the key."""
        return [name for name in self.columns if name not in self.key]


class Statements:
    """Runs statements about tables with random values in them."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        self._connection = connection
        self._rng = random.Random(seed)
        self._tables: dict[str, Table] = {}
        self._serial = 0
        self._labels, self._new_labels = list(MOODS), list[str]()

    def _alter(self, table: Table, change: str, *names: str) -> None:
        done = sql.SQL(change).format(*map(sql.Identifier, names))
        self._run(sql.SQL("ALTER TABLE {} {}").format(table.identifier, done))

    def _value(self, table: Table, name: str) -> Any:
        if name not in table.key and self._rng.random() < 0.15:
            return None
        if name in table.key and self._rng.random() < 0.7:
            # Few keys, so that statements hit existing rows.
            number = self._rng.randint(1, ROWS_MAX)
            kind = table.columns[name].kind
            return f"00000000-0000-0000-0000-{number:012}" if kind == "uuid" else number
        kind = table.columns[name].kind
        if kind == "mood":
            return self._rng.choice(self._labels)
        value = MAKE[kind](self._rng)
        # A numeric has no infinity before Postgres 14.
        old = value == "Infinity" and self._connection.info.server_version < 140_000
        return "NaN" if old else value

    def _typed(self, table: Table, names: list[str], values: list[Any]) -> sql.Composed:
        return sql.SQL(", ").join(
            sql.SQL("CAST({} AS {})").format(
                sql.Literal(value), sql.SQL(ddl(table.columns[name].kind))
            )
            for name, value in zip(names, values, strict=True)
        )

    def _some_rows(self, table: Table) -> sql.Composable:
        if self._rng.random() < 0.5:
            return self._one_row(table)
        return sql.SQL("hashtext({}::text) % 11 = {}").format(
            sql.Identifier(next(iter(table.columns))), sql.Literal(self._rng.randint(-10, 10))
        )

    def _one_row(self, table: Table) -> sql.Composable:
        """Choose a row at random; in a bag, one of several that may be equal."""
        return sql.SQL(
            "(tableoid, ctid) = (SELECT tableoid, ctid FROM {} "
            "ORDER BY hashtext({}::text || {}) LIMIT 1)"
        ).format(
            table.identifier, sql.Identifier(next(iter(table.columns))),
            sql.Literal(str(self._rng.random())),
        )  # fmt: skip

    def _run(self, statement: sql.Composed | sql.SQL) -> None:
        self._connection.execute(statement)


def names_of(names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))

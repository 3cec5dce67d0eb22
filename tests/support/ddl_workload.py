"""A seeded random workload of rows and definitions over its own tables.

The source is the oracle: the workload does not remember rows but only definitions, and
reverts them if a transaction does not commit.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import psycopg
from psycopg import sql

from tests.support.ddl_definitions import Definitions
from tests.support.ddl_tables import Table, names_of
from tests.support.ddl_values import MOODS, REFUSED

TABLES_MAX = 10
# Kind → weight.
KINDS = {
    "insert": 30,
    "update": 40,
    "update_key": 8,
    "delete_some": 10,
    "insert_refused": 1,
    "truncate": 0.3,
    "create_table": 0.5,
    "drop_table": 0.4,
    "add_column": 1.5,
    "add_column_with_default": 1.5,
    "drop_column": 1.5,
    "rename_column": 0.7,
    "widen": 1.5,
    "widen_float": 0.5,
    "set_default": 0.7,
    "drop_default": 0.5,
    "set_not_null": 0.7,
    "add_constraint": 0.7,
    "drop_constraint": 0.5,
    "add_enum_value": 0.3,
}


class Workload(Definitions):
    """Random transactions on one source.

    Args:
        off: kinds (names of `KINDS`) that are left out.
    `done` counts committed operations by kind.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], seed: int, off: Collection[str] = ()
    ) -> None:
        super().__init__(connection, seed)
        self._kinds = {name: weight for name, weight in KINDS.items() if name not in off}
        self.done: Counter[str] = Counter()
        self.refused: set[str] = set()  # values of REFUSED that were written

    @property
    def tables(self) -> list[str]:
        """The names of the current tables."""
        return sorted(self._tables)

    def drop_all(self) -> None:
        """Remove everything of the workload from the source."""
        for table in self.tables:
            self._run(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
        self._run(sql.SQL("DROP TYPE rnd_mood"))

    def begin(self) -> None:
        """Make the first tables, one of each shape, with rows."""
        labels = sql.SQL(", ").join(map(sql.Literal, MOODS))
        self._run(sql.SQL("CREATE TYPE rnd_mood AS ENUM ({})").format(labels))
        for shape in ("plain", "composite", "bag", "partitioned", "strange"):
            self.create_table(shape)
        for table in self._tables.values():
            self.insert(table)

    def step(self) -> None:
        """Run a transaction of one to five operations; one in twelve is rolled back."""
        kinds = self._kinds
        before = copy.deepcopy((self._tables, self._serial))
        planned: Counter[str] = Counter()
        self._new_labels = []
        abandon = self._rng.random() < 1 / 12
        try:
            with self._connection.transaction():
                for _ in range(self._rng.choice([1, 1, 1, 2, 3, 5])):
                    [name] = self._rng.choices(list(kinds), list(kinds.values()))
                    if self._one(name):
                        planned[name] += 1
                if abandon:
                    raise psycopg.Rollback
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
            abandon = True  # the capture was adding a table
        if abandon:
            self._tables, self._serial = before
            planned = Counter({"rolled back": 1})
        else:
            self._labels += self._new_labels
        self.done += planned

    def delete(self, table: str, key: dict[str, Any]) -> None:
        """Delete one row by its key."""
        terms = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in key.items()
        ]
        where = sql.SQL(" AND ").join(terms)
        self._run(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), where))

    def _one(self, name: str) -> bool:
        """Run an operation. Returns: whether it found something to do. A refused value is undone."""
        if name == "create_table":
            return len(self._tables) < TABLES_MAX and self.create_table()
        table = self._rng.choice(list(self._tables.values()))
        known = copy.deepcopy(table)
        operation: Callable[[Table], bool] = getattr(self, name)
        try:
            with self._connection.transaction():
                return operation(table)
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError):
            table.__dict__.update(known.__dict__)
        except (
            psycopg.errors.ObjectInUse,  # the definition changed before the rows' triggers ran
            psycopg.errors.FeatureNotSupported,
            psycopg.errors.ProgramLimitExceeded,
        ):
            table.__dict__.update(known.__dict__)
        return False

    def insert(self, table: Table) -> bool:
        for _ in range(self._rng.choice([1, 1, 2, 10])):
            # Sometimes the defaults are used.
            chosen = [n for n in table.columns if n in table.key or self._rng.random() < 0.9]
            names = chosen or list(table.columns)  # a statement names at least one column
            values = [self._value(table, name) for name in names]
            self._run(
                sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
                    table.identifier, names_of(names), self._typed(table, names, values)
                )
            )
        return True

    def insert_refused(self, table: Table) -> bool:
        """Insert a row with a value that silver cannot hold; it must be in quarantine afterwards."""
        able = [n for n in table.free() if table.columns[n].kind in REFUSED]
        if not able or not table.key:  # a bag's row cannot be deleted by a key
            return False
        chosen = self._rng.choice(able)
        names = [*table.key, chosen]
        bad = REFUSED[table.columns[chosen].kind]
        values = [*(self._value(table, name) for name in table.key), bad]
        self._run(
            sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
                table.identifier, names_of(names), self._typed(table, names, values)
            )
        )
        self.refused.add(bad)
        return True

    def update(self, table: Table) -> bool:
        free = table.free()
        if not free:
            return False
        names = self._rng.sample(free, min(len(free), self._rng.randint(1, 3)))
        values = [self._value(table, name) for name in names]
        self._run(
            sql.SQL("UPDATE {} SET ({}) = ROW ({}) WHERE {}").format(
                table.identifier, names_of(names), self._typed(table, names, values),
                self._some_rows(table),
            )
        )  # fmt: skip
        return True

    def update_key(self, table: Table) -> bool:
        if not table.key:
            return False
        name = self._rng.choice(table.key)
        self._run(
            sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(
                table.identifier, sql.Identifier(name),
                self._typed(table, [name], [self._value(table, name)]), self._one_row(table),
            )
        )  # fmt: skip
        return True

    def delete_some(self, table: Table) -> bool:
        self._run(
            sql.SQL("DELETE FROM {} WHERE {}").format(table.identifier, self._some_rows(table))
        )
        return True

    def truncate(self, table: Table) -> bool:
        self._run(sql.SQL("TRUNCATE {}").format(table.identifier))
        return True

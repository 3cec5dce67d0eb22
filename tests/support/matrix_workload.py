"""A seeded random workload of rows on the tables of the type matrix and of odd shapes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from psycopg import sql

from tests.support.matrix_tables import Source, insert, known, large_values, refusals
from tests.support.odd_tables import OddTable, odd_tables
from tests.support.type_cases import Type

ROWS_MAX = 120
FIRST_ID = 10_000  # after the ids of the first rows


class MatrixWorkload:
    """Random changes of rows, each in its own transaction, in tables that `prepare` made.

    `refused`: values that silver cannot hold: row of `matrix_refused` → (its column's type, the text).
    """

    def __init__(self, source: Source, seed: int) -> None:
        self._source = source
        self._rng = random.Random(seed)
        self._types = known(source)
        self._refusals = [(each, text) for each, text, late in refusals(self._types) if not late]
        self._odd = odd_tables()
        self._numbers = {table.name: [1, 2] for table in self._odd}
        self._next = FIRST_ID
        given = enumerate(refusals(self._types), start=1)
        self.refused: dict[int, tuple[Type, str]] = {n: (e, t) for n, (e, t, _) in given}
        self.done: Counter[str] = Counter()

    def step(self) -> None:
        """One change."""
        kinds: list[Callable[[], None]] = [
            self._matrix, self._matrix, self._bag, self._large, self._refuse, self._odd_row,
            self._shapes,
        ]  # fmt: skip
        chosen = self._rng.choice(kinds)
        chosen()
        self.done[chosen.__name__.strip("_")] += 1

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _ids(self, table: str) -> list[int]:
        found = self._source.execute(f"SELECT DISTINCT id FROM {table} ORDER BY id").fetchall()
        return [number for (number,) in found]

    def _matrix(self) -> None:
        ids, one = self._ids("matrix"), self._rng.choice(self._types).column
        row, other = self._rng.choice(ids), self._rng.choice(ids)
        what = self._rng.choice(["copy", "value", "touch", "key", "delete"])
        if what == "delete" or len(ids) > ROWS_MAX:
            if row > FIRST_ID:
                self._source.execute("DELETE FROM matrix WHERE id = %s", [row])
        elif what == "copy":
            self._copy("matrix", row, (each.column for each in self._types))
        elif what == "value":
            self._source.execute(
                f"UPDATE matrix SET {one} = (SELECT {one} FROM matrix WHERE id = %s) WHERE id = %s",
                [other, row],
            )
        elif what == "touch":
            self._source.execute("UPDATE matrix SET touched = %s WHERE id = %s", [self._next, row])
        elif row > FIRST_ID:
            self._source.execute("UPDATE matrix SET id = %s WHERE id = %s", [self._number(), row])

    def _bag(self) -> None:
        ids = self._ids("matrix_bag")
        row = self._rng.choice(ids)
        if self._rng.random() < 0.5 and len(ids) < ROWS_MAX:
            # Sometimes a copy that equals another.
            given = row if self._rng.random() < 0.3 else self._number()
            self._copy("matrix_bag", row, (each.column for each in self._types), given)
        elif row > FIRST_ID:
            self._source.execute(
                "DELETE FROM matrix_bag WHERE ctid = (SELECT min(ctid) FROM matrix_bag WHERE id = %s)",
                [row],
            )
        else:
            self._source.execute("UPDATE matrix_bag SET id = %s WHERE id = %s", [row, row])

    def _large(self) -> None:
        ids = self._ids("matrix_large")
        row = self._rng.choice(ids)
        if len(ids) < 8:
            self._copy(
                "matrix_large", row, (f"l{n}" for n in range(len(large_values(self._source))))
            )
        elif self._rng.random() < 0.2 and row > FIRST_ID:
            self._source.execute("DELETE FROM matrix_large WHERE id = %s", [row])
        else:
            # The event lacks the large values; with a new key silver must take them from the old row.
            new = self._number() if row > FIRST_ID and self._rng.random() < 0.3 else row
            self._source.execute(
                "UPDATE matrix_large SET n = %s, id = %s WHERE id = %s", [self._next, new, row]
            )

    def _copy(self, table: str, row: int, columns: Iterable[str], to: int | None = None) -> None:
        names = ", ".join(columns)
        self._source.execute(
            f"INSERT INTO {table} (id, {names}) SELECT %s, {names} FROM {table} WHERE id = %s LIMIT 1",
            [self._number() if to is None else to, row],
        )

    def _refuse(self) -> None:
        if len(self.refused) > 3 * ROWS_MAX:
            number = self._rng.choice(sorted(self.refused))
            self._source.execute("DELETE FROM matrix_refused WHERE id = %s", [number])
            del self.refused[number]
            return
        each, text = self._rng.choice(self._refusals)
        number = self._number()
        if self._rng.random() < 0.5:
            insert(self._source, "matrix_refused", number, {each: text})
        else:
            insert(self._source, "matrix_refused", number, {})
            statement = f"UPDATE matrix_refused SET {each.column} = %s::{each.ddl} WHERE id = %s"
            self._source.execute(statement, [text, number])
        self.refused[number] = (each, text)

    def _odd_row(self) -> None:
        table = self._rng.choice(self._odd)
        numbers = self._numbers[table.name]
        if len(numbers) < 3 or (self._rng.random() < 0.4 and len(numbers) < 20):
            numbers.append(self._number())
            table.insert(self._source, numbers[-1])
            return
        number = self._rng.choice(numbers)
        if self._rng.random() < 0.3:
            numbers.remove(number)
            change: sql.Composable = sql.SQL("DELETE FROM {}").format(table.identifier)
        else:
            text = next(name for name, kind in reversed(table.columns) if kind == "text")
            change = sql.SQL("UPDATE {} SET {} = {}").format(
                table.identifier, sql.Identifier(text), sql.Literal(f"text {self._number()}")
            )
            if text in table.key:
                return
        self._source.execute(sql.SQL("{} WHERE {}").format(change, _is_row(table, number)))

    def _shapes(self) -> None:
        number, value = self._number(), self._rng.randint(1, 99)
        self._source.execute(
            self._rng.choice([
                f"INSERT INTO made (id, n) VALUES ({number}, {value})",
                f"UPDATE made SET n = {value} WHERE id % 3 = {value % 3}",
                f"DELETE FROM made WHERE id > {FIRST_ID} AND id % 7 = {value % 7}",
                f"INSERT INTO parted VALUES ({number}, date '2026-01-01' + {value}, 'x')",
                f"UPDATE parted SET day = day + {value} WHERE id % 5 = {value % 5}",
                f"DELETE FROM parted WHERE id > {FIRST_ID} AND id % 3 = {value % 3}",
                f"INSERT INTO child VALUES ({number}, 'x', {value})",
                f"UPDATE parent SET v = '{value}' WHERE id % 4 = {value % 4}",
                f"DELETE FROM child WHERE id > {FIRST_ID} AND id % 3 = {value % 3}",
                "INSERT INTO counted (v) VALUES ('x')",
                f"UPDATE counted SET v = '{value}', other = DEFAULT WHERE id % 5 = {value % 5}",
                f"UPDATE large SET n = {value}",  # the event lacks the 20 MB
            ])
        )  # fmt: skip


def _is_row(table: OddTable, number: int) -> sql.Composed:
    first, kind = table.columns[0]
    value: Any = number if kind == "int" else f"text {number}"
    return sql.SQL("{} = {}").format(sql.Identifier(first), sql.Literal(value))

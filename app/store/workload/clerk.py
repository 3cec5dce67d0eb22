"""Gives one business transaction its connection, clock and random choices, and picks its rows.

Rows are picked by probing a key at a random place, not from a list in memory: so a choice costs one index look-up at
any size of the store, sees concurrent changes, and is the same for the same random generator and the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Executable,
    Row,
    Table,
    func,
    insert,
    select,
)

from app.store.tables import make


@dataclass(frozen=True)
class Clerk:
    """Who does one business transaction.

    Args:
        connection: with a transaction open; the caller commits it.
        rng: where every choice comes from.
        now: the time that the rows get.
    """

    connection: Connection
    rng: Random
    now: datetime

    def change(self, statement: Executable) -> int:
        """Execute an INSERT, UPDATE or DELETE; returns how many rows it changed."""
        # SQLAlchemy drops an INSERT's row count unless this option is set.
        result = self.connection.execute(statement, execution_options={"preserve_rowcount": True})
        assert isinstance(result, CursorResult) and result.rowcount >= 0
        return result.rowcount

    def add(self, table: Table, rows: Sequence[make.Row]) -> int:
        """Insert `rows` in one statement; returns how many."""
        if rows:
            self.connection.execute(insert(table).values(list(rows)))
        return len(rows)

    def next_id(self, column: Column[Any]) -> int:
        """The next value of an identity column, known before the row is made."""
        sequence = func.pg_get_serial_sequence(column.table.name, column.name)
        return int(self.connection.execute(select(func.nextval(sequence))).scalar_one())

    def pick(
        self,
        key: Column[Any],
        *columns: ColumnElement[Any],
        where: ColumnElement[bool] | None = None,
        skew: float = 1.0,
        lock: bool = True,
    ) -> Row[Any] | None:
        """A random row of the table of `key`: its key, then `columns`; None if there is none.

        Args:
            key: the single-column key, or the leading one of an index.
            where: the row's condition; an index should support it.
            skew: over 1 favours small keys, under 1 large ones.
            lock: hold the row until the transaction ends.
        """
        ends = select(func.min(key), func.max(key))
        low, high = self.connection.execute(ends if where is None else ends.where(where)).one()
        if low is None:
            return None
        probe = low + int((high - low + 1) * self.rng.random() ** skew)
        statement = select(key, *columns).where(key >= probe).order_by(key).limit(1)
        if where is not None:
            statement = statement.where(where)
        if lock:
            statement = statement.with_for_update()
        return self.connection.execute(statement).first()

"""Simple tables and single-row changes at a set rate, for measuring freshness and throughput."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from random import Random

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Delete,
    Engine,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    TextClause,
    Update,
    delete,
    func,
    select,
    text,
    update,
)

from app.errors import HeadwaterError
from app.store.tables.create import lock_store
from app.store.workload.drive import PacedWorkload, Transaction
from app.store.workload.store_workload import utc_now

TABLES_MAX = 64
# Rows of one transaction of `fill` and `burst`: large enough to be fast, small enough to stream.
ROWS_AT_ONCE = 10_000
CHANGES = ("insert", "update", "delete")
DEFAULT_MIX = {"insert": 20, "update": 70, "delete": 10}


@dataclass(frozen=True)
class BenchChange(Transaction):
    """One committed single-row change: `table`, the row's `id`, and `v` (None for a delete)."""

    table: str
    id: int
    v: int | None


class BenchWorkload(PacedWorkload):
    """Single-row changes, each its own transaction, over `bench_1` … `bench_<tables>`.

    The tables have the columns `id bigint` (key), `v int`, `note text`, `updated_at timestamptz`.
    `v` counts up over all changes of this object, so that a change can be recognised downstream.

    Args:
        tables: how many, 1 to 64; they take turns.
        rate: changes a second for `run`; 0 for as fast as it goes.
        rows: `create` fills each table up to this number of rows.
        mix: weights of insert, update and delete.
        seed: of all random choices.
    """

    def __init__(
        self,
        engine: Engine,
        tables: int = 8,
        rate: float = 50.0,
        *,
        rows: int = 1_000,
        mix: Mapping[str, int] | None = None,
        seed: int = 1,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        if not 1 <= tables <= TABLES_MAX:
            raise HeadwaterError(f"tables must be 1 to {TABLES_MAX}", detail=f"observed {tables}")
        weights = dict(DEFAULT_MIX if mix is None else mix)
        if set(weights) - set(CHANGES) or sum(weights.values()) <= 0 or min(weights.values()) < 0:
            raise HeadwaterError(
                "the mix is not understood",
                detail=f"observed {weights}",
                hint=f"give weights of {', '.join(CHANGES)}",
            )
        self.rate = rate
        self.tables = [bench_table(number) for number in range(1, tables + 1)]
        self._engine = engine
        self._rows = rows
        self._kinds = [kind for kind in CHANGES if weights.get(kind, 0) > 0]
        self._weights = [weights[kind] for kind in self._kinds]
        self._rng = Random(f"bench:{seed}")
        self._now = now
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._highest: dict[str, int] = {}
        self._turn = 0
        self._v = 0

    def create(self) -> None:
        """Create missing tables and fill each up to `rows` rows."""
        with self._engine.begin() as connection:
            lock_store(connection)
            for table in self.tables:
                table.create(connection, checkfirst=True)
        for table in self.tables:
            with self._engine.connect() as connection:
                there = connection.execute(select(func.count()).select_from(table)).scalar_one()
            self.fill(table, self._rows - there)

    def drop(self) -> None:
        """Drop the tables, also those of a larger run before."""
        with self._engine.begin() as connection:
            for number in range(1, TABLES_MAX + 1):
                bench_table(number).drop(connection, checkfirst=True)

    def fill(self, table: Table, rows: int) -> None:
        """Add `rows` new rows to `table`, `ROWS_AT_ONCE` in each transaction; none if it is < 1."""
        for start in range(0, rows, ROWS_AT_ONCE):
            with self._engine.begin() as connection:
                self._insert_many(connection, table, min(ROWS_AT_ONCE, rows - start))

    def step(self) -> BenchChange:
        """Make one single-row change in the next table and commit it."""
        table = self.tables[self._turn % len(self.tables)]
        self._turn += 1
        self._v += 1
        [kind] = self._rng.choices(self._kinds, self._weights)
        # One autocommitted statement is one round trip, so the load itself costs little of the
        # machine that is measured.
        with self._autocommit.connect() as connection:
            row_id = None if kind == "insert" else self._change(connection, table, kind)
            if row_id is None:
                kind, row_id = "insert", self._insert(connection, table)
        return BenchChange(
            operation=kind,
            tables=frozenset((table.name,)),
            changes=1,
            committed_at=utc_now(),
            table=table.name,
            id=row_id,
            v=None if kind == "delete" else self._v,
        )

    def burst(self, changes: int, at_once: int = ROWS_AT_ONCE) -> None:
        """Make `changes` changes as fast as Postgres takes them, `at_once` a transaction.

        A fifth are inserts, seven tenths updates of random rows, the rest deletes (fewer of
        both, and so more inserts, in tables of few rows); the tables take turns.
        """
        left = changes
        while left > 0:
            table = self.tables[self._turn % len(self.tables)]
            self._turn += 1
            self._v += 1
            size = min(at_once, left)
            with self._engine.begin() as connection:
                inserted = max(size // 5, 1)
                self._insert_many(connection, table, inserted)
                gone = table.c.id.in_(self._random_ids(connection, table, size // 10))
                deleted = _count(connection, delete(table).where(gone))
                rest = size - inserted - deleted
                some = table.c.id.in_(self._random_ids(connection, table, rest))
                values = {"v": self._v, "updated_at": self._now()}
                updated = _count(connection, update(table).where(some).values(values))
            left -= inserted + deleted + updated

    def _insert(self, connection: Connection, table: Table) -> int:
        row = {"v": self._v, "note": self._note(), "now": self._now()}
        row_id = int(connection.execute(_insert_one(table.name), row).scalar_one())
        self._highest[table.name] = max(row_id, self._highest.get(table.name, 0))
        return row_id

    def _change(self, connection: Connection, table: Table, kind: str) -> int | None:
        """Update or delete a random row; its id, None if the table is empty."""
        if table.name not in self._highest:
            ends = self._ends(connection, table)
            if ends is None:
                return None
            self._highest[table.name] = ends[1]
        row: dict[str, object] = {"probe": self._rng.randint(1, self._highest[table.name])}
        if kind == "update":
            row |= {"v": self._v, "now": self._now()}
        statement = _update_one(table.name) if kind == "update" else _delete_one(table.name)
        return connection.execute(statement, row).scalar()

    def _insert_many(self, connection: Connection, table: Table, rows: int) -> None:
        # The server generates the rows, so that a million of them do not pass through this process.
        connection.execute(
            text(
                f"insert into {table.name} (v, note, updated_at) "
                "select :v, :note || ' ' || n, :now from generate_series(1, :rows) n"
            ),
            {"v": self._v, "note": self._note(), "now": self._now(), "rows": rows},
        )

    def _note(self) -> str:
        return f"note {self._rng.getrandbits(64):016x}"

    def _ends(self, connection: Connection, table: Table) -> tuple[int, int] | None:
        low, high = connection.execute(select(func.min(table.c.id), func.max(table.c.id))).one()
        return None if low is None else (low, high)

    def _random_ids(self, connection: Connection, table: Table, count: int) -> list[int]:
        ends = self._ends(connection, table)
        if ends is None:
            return []
        low, high = ends
        return self._rng.sample(range(low, high + 1), min(count, high - low + 1))


def bench_table(number: int) -> Table:
    """The table `bench_<number>`."""
    return Table(
        f"bench_{number}",
        MetaData(),
        Column("id", BigInteger, Identity(always=False), primary_key=True),
        Column("v", Integer, nullable=False),
        Column("note", Text),
        Column("updated_at", DateTime(timezone=True), nullable=False),
    )


def _count(connection: Connection, statement: Delete | Update) -> int:
    return connection.execute(statement).rowcount


def _some_id(table: str) -> str:
    """SQL for the first id at or after a random place; the last id if there is none."""
    return (
        f"coalesce((select id from {table} where id >= :probe order by id limit 1),"
        f" (select max(id) from {table}))"
    )


@cache
def _insert_one(table: str) -> TextClause:
    return text(f"insert into {table} (v, note, updated_at) values (:v, :note, :now) returning id")


@cache
def _update_one(table: str) -> TextClause:
    return text(
        f"update {table} set v = :v, updated_at = :now where id = {_some_id(table)} returning id"
    )


@cache
def _delete_one(table: str) -> TextClause:
    return text(f"delete from {table} where id = {_some_id(table)} returning id")

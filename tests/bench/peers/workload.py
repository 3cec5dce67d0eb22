"""The same changes for every contender: seeded inserts, updates and deletes of rows with TOASTed values.

Everything follows from the seed, times included, so that two sources that ran the same workload have
equal rows: `circumstances.content_hash` is their proof.
"""

from __future__ import annotations

import random
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg

ROWS_AT_ONCE = 1_000  # changes in one transaction of a burst
MARKER = 0  # the row whose `v` tells a reader how far a table is; no change chooses it
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
BODY_EVERY = 10  # one row in ten has a body, which Postgres stores outside of the row (TOAST)
BODY_PARTS = 100  # of 32 characters each: 3,200 B
Connection = psycopg.Connection[tuple[Any, ...]]

_BODY = (
    f"CASE WHEN id %% {BODY_EVERY} = 0 THEN (SELECT string_agg(md5(id::text || %(step)s::text || n), '')"
    f" FROM generate_series(1, {BODY_PARTS}) n) END"
)
_INSERT = (
    "INSERT INTO {table} SELECT id, %(step)s, 'note ' || md5(id::text || %(step)s::text), "
    + _BODY
    + ", (id %% 100000) / 100.0, %(now)s FROM unnest(%(ids)s::bigint[]) id"
)
# Seven updates in eight leave the body alone: an event without the value. The eighth writes a new one.
_UPDATE = (
    "UPDATE {table} SET v = %(step)s, price = price + 1, updated_at = %(now)s, "
    "body = CASE WHEN (id + %(step)s) %% 8 = 0 THEN "
    + _BODY
    + " ELSE body END WHERE id = ANY(%(ids)s)"
)
_DELETE = "DELETE FROM {table} WHERE id = ANY(%(ids)s)"


class PeersWorkload:
    """Changes of `peer_1` … `peer_<tables>`: a fifth inserts, seven tenths updates, a tenth deletes.

    A tenth of the inserts takes the key of a row that was deleted before.

    Args:
        connection: of the tables' owner, in autocommit.
        rows: rows of each table before the changes, beside the marker.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        tables: int = 4,
        rows: int,
        seed: int = 1,
    ) -> None:
        self.tables = [f"peer_{number}" for number in range(1, tables + 1)]
        self.rows = rows
        self.seed = seed
        self.connection = connection
        self._random = random.Random(f"peers:{seed}")
        self._alive = {table: list(range(1, rows + 1)) for table in self.tables}
        self._gone: dict[str, list[int]] = {table: [] for table in self.tables}
        self._next = dict.fromkeys(self.tables, rows + 1)
        self._step = 0

    def create(self, identity: str) -> None:
        """Make the tables with their first rows; `identity` is their replica identity."""
        for table in self.tables:
            self._run(
                f"CREATE TABLE {table} (id bigint PRIMARY KEY, v int NOT NULL, note text, body text, "
                "price numeric(12,2), updated_at timestamptz NOT NULL)"
            )
            # Outside of the row and not compressed, whatever the text is.
            self._run(f"ALTER TABLE {table} ALTER body SET STORAGE EXTERNAL")
            self._run(f"ALTER TABLE {table} REPLICA IDENTITY {identity}")
            ids = [MARKER, *self._alive[table]]
            self._run(_INSERT.format(table=table), ids=ids, step=0, now=START)

    def burst(self, changes: int) -> None:
        """Commit exactly `changes` changes, ROWS_AT_ONCE a transaction, the tables in turn."""
        while changes > 0:
            size = min(ROWS_AT_ONCE, changes)
            inserts, deletes = max(size // 5, 1), size // 10
            self._change(inserts, size - inserts - deletes, deletes)
            changes -= size

    def single(self) -> None:
        """Commit one change of one row in the next table."""
        kind = self._random.choices(range(3), (20, 70, 10))[0]
        self._change(*(int(kind == each) for each in range(3)))

    def paced(self, per_s: float, stop: threading.Event) -> None:
        """Commit single changes at a rate until `stop` is set."""
        began, made = time.monotonic(), 0
        while not stop.is_set():
            self.single()
            made += 1
            stop.wait(max(0.0, began + made / per_s - time.monotonic()))

    def mark(self, value: int, by: Connection | None = None, *tables: str) -> float:
        """Set `v` of the marker in all tables, or in some, in one transaction.

        Args:
            by: another connection, for a mark while `paced` runs.
        Returns: the monotonic time after the commit.
        """
        connection = by or self.connection
        self._step += 1
        now = START + timedelta(seconds=self._step)
        with connection.transaction():
            for table in tables or self.tables:
                statement = f"UPDATE {table} SET v = %s, updated_at = %s WHERE id = {MARKER}"
                connection.execute(statement.encode(), [value, now])
        return time.monotonic()

    def _change(self, inserts: int, updates: int, deletes: int) -> None:
        table = self.tables[self._step % len(self.tables)]
        self._step += 1
        alive, gone = self._alive[table], self._gone[table]
        again = min(inserts // 10, len(gone))
        new = [gone.pop(self._random.randrange(len(gone))) for _ in range(again)]
        fresh = inserts - again
        new += range(self._next[table], self._next[table] + fresh)
        self._next[table] += fresh
        alive += new
        changed = self._random.sample(alive, updates)
        removed = []
        for _ in range(deletes):
            place = self._random.randrange(len(alive))
            alive[place], alive[-1] = alive[-1], alive[place]
            removed.append(alive.pop())
        gone += removed
        values = {"step": self._step, "now": START + timedelta(seconds=self._step)}
        with self.connection.transaction():
            for statement, ids in ((_INSERT, new), (_UPDATE, changed), (_DELETE, removed)):
                if ids:
                    self._run(statement.format(table=table), ids=ids, **values)

    def _run(self, statement: str, **values: Any) -> None:
        self.connection.execute(statement.encode(), values or None)

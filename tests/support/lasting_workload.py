"""The random workload of rows and definitions, which goes on after its connection is lost."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from tests.support.ddl_tables import Table
from tests.support.ddl_workload import Workload

LARGE = "large_values"
LARGE_BYTES_MAX = 500_000
LARGE_ROWS = 20
# Only quarantine can hold such values: they would have to be explained after each fault.
OFF = ("insert_refused",)
PAUSE_S = 0.3


class LastingWorkload(Workload):
    """A workload that reconnects, and asks the server whether its last transaction was committed.

    Args:
        number: of the workload; each has tables with names of their own.
        reconnect_s: how long the source may be away.
    """

    def __init__(self, dsn: str, seed: int, *, number: int = 0, reconnect_s: float) -> None:
        super().__init__(self._connect(dsn), seed, off=OFF)
        self._serial = 1_000 * number
        self._dsn, self._reconnect_s = dsn, reconnect_s
        self._kinds |= {"change_large": 2.0}
        self._xid: str | None = None
        self.lost = 0  # connections

    def step(self) -> None:
        """Run a transaction; if the connection is lost meanwhile, find out how it ended."""
        before = copy.deepcopy((self._tables, self._serial))
        labels = list(self._labels)
        self._xid = None
        try:
            super().step()
        except psycopg.OperationalError:
            self.lost += 1
            if self._committed():
                self._labels = labels + self._new_labels
            else:
                (self._tables, self._serial), self._labels = before, labels

    def change_large(self, _: Table) -> bool:
        """Write a value of up to half a megabyte, or give one another key, in the table LARGE."""
        row, other = (self._rng.randint(1, LARGE_ROWS) for _ in range(2))
        if self._rng.random() < 0.3:
            self._run(
                sql.SQL("UPDATE {} SET id = {} WHERE id = {}").format(
                    sql.Identifier(LARGE), sql.Literal(other), sql.Literal(row)
                )
            )
            return True
        body = self._rng.randbytes(self._rng.randint(1, LARGE_BYTES_MAX // 2)).hex()
        self._run(
            sql.SQL(
                "INSERT INTO {} VALUES ({}, {}) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body"
            ).format(sql.Identifier(LARGE), sql.Literal(row), sql.Literal(body))
        )
        return True

    def _run(self, statement: sql.Composed | sql.SQL) -> None:
        if self._xid is None:
            row = self._connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            self._xid = row[0] if row else None
        super()._run(statement)

    def _committed(self) -> bool:
        limit = time.monotonic() + self._reconnect_s
        while True:
            try:
                self._connection = self._connect(self._dsn)
                if self._xid is None:
                    return False
                row = self._connection.execute(
                    "SELECT pg_xact_status(%s::xid8)", [self._xid]
                ).fetchone()
            except psycopg.OperationalError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.2)
            else:
                if row != (
                    "in progress",
                ):  # the server has not noticed yet that its client is gone
                    return row == ("committed",)

    @staticmethod
    def _connect(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=5)


@contextmanager
def stepping(workload: LastingWorkload, pause_s: float = PAUSE_S) -> Iterator[None]:
    """Take a step each `pause_s` seconds during the block; a failure of a step is raised at its end."""
    stop, failures = threading.Event(), list[Exception]()

    def work() -> None:
        try:
            while not stop.wait(pause_s):
                workload.step()
        except Exception as error:  # noqa: BLE001 - raised in the test's thread below
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)
    if failures:
        raise failures[0]

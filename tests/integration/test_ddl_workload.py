"""The random workload of rows and definitions on a real server, without a lake."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from psycopg import sql

from tests.support.ddl_workload import KINDS, Workload
from tests.support.postgres import fresh_database
from tests.support.stack import Stack

STEPS = 600


def played(dsn: str, seed: int, **options: Any) -> tuple[dict[str, list[Any]], Counter[str]]:
    """Every table's rows after a workload, and the workload's statements."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        workload = Workload(connection, seed, **options)
        workload.begin()
        for _ in range(STEPS):
            workload.step()
        rows = {
            name: sorted(
                connection.execute(
                    sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name))
                ).fetchall()
            )
            for name in workload.tables
        }
        workload.drop_all()
        return rows, workload.done


def test_one_seed_makes_one_history_of_every_kind(source_server: Stack, seed: int) -> None:
    dsn = source_server.settings.source_dsn
    with fresh_database(dsn) as one, fresh_database(dsn) as two:
        rows, done = played(one, seed)
        assert played(two, seed) == (rows, done)
    assert {name for name, weight in KINDS.items() if weight > 1} <= set(done)
    assert max(map(len, rows.values())) > 20


def test_kinds_can_be_left_out(dsn: str, seed: int) -> None:
    _, done = played(dsn, seed, off=("rename_column", "drop_column"))
    assert not {"rename_column", "drop_column"} & set(done)

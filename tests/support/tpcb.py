"""The tables and the transaction of pgbench (TPC-B-like) in Python, without client tools."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers")

_CREATE = """
CREATE TABLE pgbench_history(tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
CREATE TABLE pgbench_tellers(tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts(aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_branches(bid int PRIMARY KEY, bbalance int, filler char(88));
"""


def create(dsn: str, *, branches: int, accounts: int) -> None:
    """Make and fill the four tables; `accounts` is the total number of rows (pgbench: 100,000 for each branch)."""
    with psycopg.connect(dsn) as connection:
        connection.execute(_CREATE)
        connection.execute(
            "INSERT INTO pgbench_branches SELECT i, 0 FROM generate_series(1, %s) i", [branches]
        )
        connection.execute(
            "INSERT INTO pgbench_tellers SELECT i, (i - 1) / 10 + 1, 0 "
            "FROM generate_series(1, %s) i",
            [branches * 10],
        )
        with connection.cursor().copy("COPY pgbench_accounts FROM STDIN") as copy:
            for aid in range(1, accounts + 1):
                copy.write_row((aid, aid % branches + 1, 0, ""))


@contextmanager
def running(
    dsn: str,
    *,
    clients: int,
    branches: int,
    accounts: int,
    seed: int,
    reconnect_s: float = 0,
    pause_s: float = 0,
) -> Iterator[list[int]]:
    """Run transactions in `clients` threads during the block; yields their counts, updated live.

    A client reconnects a lost connection for up to `reconnect_s` seconds, and pauses for `pause_s` between
    transactions.
    """
    stop = threading.Event()
    counts = [0] * clients
    failures: list[Exception] = []

    def client(number: int) -> None:
        rng = random.Random(seed * 1_000 + number)
        try:
            lost_at = None
            while not stop.is_set():
                try:
                    with psycopg.connect(dsn) as connection:
                        while not stop.is_set():
                            _transact(connection, rng, branches, accounts)
                            counts[number] += 1
                            lost_at = None
                            if pause_s:
                                stop.wait(pause_s)
                except psycopg.OperationalError:
                    lost_at = lost_at or time.monotonic()
                    if time.monotonic() - lost_at > reconnect_s:
                        raise
                    stop.wait(0.2)
        except Exception as error:  # noqa: BLE001 - raised in the test's thread below
            failures.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
    if failures:
        raise failures[0]


def _transact(
    connection: psycopg.Connection[tuple[object, ...]],
    rng: random.Random,
    branches: int,
    accounts: int,
) -> None:
    bid, tid = rng.randint(1, branches), rng.randint(1, branches * 10)
    aid, delta = rng.randint(1, accounts), rng.randint(-5_000, 5_000)
    with connection.transaction():
        connection.execute(
            "UPDATE pgbench_accounts SET abalance = abalance + %s WHERE aid = %s", [delta, aid]
        )
        connection.execute("SELECT abalance FROM pgbench_accounts WHERE aid = %s", [aid])
        connection.execute(
            "UPDATE pgbench_tellers SET tbalance = tbalance + %s WHERE tid = %s", [delta, tid]
        )
        connection.execute(
            "UPDATE pgbench_branches SET bbalance = bbalance + %s WHERE bid = %s", [delta, bid]
        )
        connection.execute(
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) "
            "VALUES (%s, %s, %s, %s, CURRENT_TIMESTAMP)",
            [tid, bid, aid, delta],
        )

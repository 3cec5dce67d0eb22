"""Random transactions in a source, from a seed, during a test."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

Change = Callable[[psycopg.Connection[tuple[Any, ...]], random.Random], object]


@contextmanager
def writing(dsn: str, seed: int, change: Change) -> Iterator[list[int]]:
    """Run transactions of one to four changes during the block; yields a list that grows with each."""
    stop, done = threading.Event(), list[int]()
    failures: list[Exception] = []

    def write() -> None:
        rng = random.Random(seed)
        try:
            with psycopg.connect(dsn) as connection:
                while not stop.is_set():
                    with connection.transaction():
                        for _ in range(rng.randint(1, 4)):
                            change(connection, rng)
                    done.append(1)
                    stop.wait(0.01)
        except Exception as error:  # noqa: BLE001 - raised in the test's thread below
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(timeout=30)
    if failures:
        raise failures[0]

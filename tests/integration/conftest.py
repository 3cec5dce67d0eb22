"""Stacks that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from tests.support.postgres import fresh_database, fresh_engine
from tests.support.stack import Stack, fresh_stack


@pytest.fixture(scope="module")
def carriers() -> Iterator[Stack]:
    """Kafka, the object store and the Connect worker, without a source and without silver."""
    with fresh_stack() as fresh:
        fresh.up("--only", "connect")
        yield fresh


@pytest.fixture(scope="session")
def source_server() -> Iterator[Stack]:
    """The embedded Postgres alone; each test makes its own database on it (`support/postgres.py`)."""
    with fresh_stack() as fresh:
        fresh.up("--only", "postgres")
        yield fresh


@pytest.fixture
def dsn(source_server: Stack) -> Iterator[str]:
    """An empty database of the test's own on the embedded Postgres, as its superuser."""
    with fresh_database(source_server.settings.source_dsn) as found:
        yield found


@pytest.fixture
def source(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection to that database; each statement is committed at once."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def engine(source_server: Stack) -> Iterator[Engine]:
    """An engine on an empty database, as the demo store uses it."""
    with fresh_engine(source_server.settings.source_dsn) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def object_store() -> Iterator[Stack]:
    """The embedded object store alone; each test uses its own folder in it."""
    with fresh_stack() as fresh:
        fresh.up("--only", "s3")
        yield fresh

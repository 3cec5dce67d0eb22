"""Stacks that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, fresh_stack


@pytest.fixture(scope="module")
def carriers() -> Iterator[Stack]:
    """Kafka, the object store and the Connect worker, without a source and without silver."""
    with fresh_stack() as fresh:
        fresh.up("--only", "connect")
        yield fresh


@pytest.fixture(scope="session")
def source_server() -> Iterator[Stack]:
    """The embedded Postgres alone; a test makes itself a database on it (`support/postgres.py`)."""
    with fresh_stack() as fresh:
        fresh.up("--only", "postgres")
        yield fresh


@pytest.fixture(scope="session")
def object_store() -> Iterator[Stack]:
    """The embedded object store alone; a test keeps to a folder of its own in it."""
    with fresh_stack() as fresh:
        fresh.up("--only", "s3")
        yield fresh

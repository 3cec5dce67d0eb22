"""Benchmarks run the JVMs as users do, with both compilers; a terminated one stops what it started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.processes.interrupts import terminated_like_interrupted
from tests.support.circumstances import begin


@pytest.fixture(autouse=True, scope="session")
def both_compilers() -> Iterator[None]:
    """For stacks, the environment overrides the tests' own options (`support/stack.py`)."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADWATER_JVM_OPTIONS", "")
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_left_behind() -> Iterator[None]:
    """They are often run under a time limit, whose SIGTERM would otherwise leave the stack running."""
    with terminated_like_interrupted():
        yield


@pytest.fixture(autouse=True)
def load_at_begin() -> None:
    """Each report tells the machine's load at the begin of its test."""
    begin()

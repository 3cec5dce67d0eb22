"""Benchmarks run the JVMs as users do, with both compilers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.circumstances import begin


@pytest.fixture(autouse=True, scope="session")
def both_compilers() -> Iterator[None]:
    """For stacks, the environment overrides the tests' own options (`support/stack.py`)."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADWATER_JVM_OPTIONS", "")
        yield


@pytest.fixture(autouse=True)
def load_at_begin() -> None:
    """Each report tells the machine's load at the begin of its test."""
    begin()

"""One stack with the demo store serves the tests of this tier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, fresh_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with fresh_stack() as fresh:
        fresh.up()
        yield fresh

"""A folder of tiny services for the tests of the supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_services import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """The test's own services; at the end they are stopped, and no process may be left."""
    made = Clone(tmp_path)
    yield made
    made.down()
    assert made.processes() == []

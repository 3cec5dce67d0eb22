"""A folder of tiny services for the tests of the supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_services import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """Services of the test's own; stopped at the end, when nothing of them may run."""
    made = Clone(tmp_path)
    yield made
    made.down()
    assert made.processes() == []

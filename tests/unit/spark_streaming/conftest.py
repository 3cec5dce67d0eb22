"""What the tests of several packages start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.disk_lake import DiskLake


@pytest.fixture
def lake(tmp_path: Path) -> DiskLake:
    """An empty lake in a folder of the test's own."""
    return DiskLake(tmp_path)

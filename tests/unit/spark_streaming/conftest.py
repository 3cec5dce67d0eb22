"""Fixtures for the tests of several packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.disk_lake import DiskLake


@pytest.fixture
def lake(tmp_path: Path) -> DiskLake:
    """An empty lake in the test's own folder."""
    return DiskLake(tmp_path)

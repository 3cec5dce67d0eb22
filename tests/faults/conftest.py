"""Marks this tier's tests, so that the default run can select only the short ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.fault import Scene

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    """A running stack with alerts, and the tables of a load, for all faults that leave it usable."""
    from tests.support.fault import fault_scene

    with fault_scene() as found:
        yield found

"""The map of CONTRIBUTING.md leads to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]*)+|[\w-]+\.toml)`")


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_path_that_is_named_exists(document: str) -> None:
    paths = PATH.findall((ROOT / document).read_text())
    assert len(paths) > 10
    found = [path for path in paths if path != "service.toml" and not (ROOT / path).exists()]
    assert found == []


def test_the_map_has_at_least_twenty_changes() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) >= 20

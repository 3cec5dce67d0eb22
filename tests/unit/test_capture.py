"""How often the guard of the capture looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.settings import load
from app.source.capture import PASS_S, SOON_FOR_S, SOON_S, Capture
from app.source.worker import Task


class Running:
    """A worker whose connectors run."""

    def tasks(self, name: str) -> list[Task]:
        return [Task(name, number, "RUNNING", "") for number in (None, 0)]


def test_a_connector_that_was_started_is_looked_at_each_second_for_a_while(tmp_path: Path) -> None:
    now = [100.0]
    worker: Any = Running()
    capture = Capture(load(tmp_path), worker, lambda: now[0])
    assert capture.pause_s == SOON_S < PASS_S
    now[0] += SOON_FOR_S
    assert capture.pause_s == PASS_S
    capture._await_source()
    assert capture.pause_s == SOON_S

"""How often the guard of the capture checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.capture.capture import OFTEN_S, PASS_S, Capture
from app.capture.source_stream import SETTLE_S
from app.connectors.worker import Task
from app.environment.settings import load


class Running:
    """A worker with running connectors."""

    def tasks(self, name: str) -> list[Task]:
        return [Task(name, number, "RUNNING", "") for number in (None, 0)]


def test_a_connector_that_was_started_is_looked_at_each_second_for_a_while(tmp_path: Path) -> None:
    now = [100.0]
    worker: Any = Running()
    capture = Capture(load(tmp_path), worker, lambda: now[0])
    assert capture.pause_s == OFTEN_S < PASS_S
    now[0] += SETTLE_S
    assert capture.pause_s == PASS_S
    capture._stream.await_running()
    assert capture.pause_s == OFTEN_S

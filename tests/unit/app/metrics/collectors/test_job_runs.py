"""Whether a job is late or failed, from its schedule and Dagster's answers about its runs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from app.jobs.dagster_client import Run, Schedule
from app.metrics.board import Board
from app.metrics.collectors.job_runs import JobCollector

NOW = datetime(2026, 3, 5, 2, 50, tzinfo=timezone.utc)  # twenty minutes after it is due
DUE = datetime(2026, 3, 5, 2, 30, tzinfo=timezone.utc)
LONG_AGO = NOW - timedelta(days=30)
FILE = 'schedule = "30 2 * * *"\n[tasks.a]\nkind = "sql"\nstatement = "SELECT 1"\n'


def run(state: str, created: datetime, seconds: int = 60) -> Run:
    ended = created + timedelta(seconds=seconds) if state in ("succeeded", "failed") else None
    return Run("id", "own", state, created, created, ended, {}, "schedule")


class Dagster:
    """Dagster's answers for one job."""

    def __init__(self, schedule: Schedule | None, *runs: Run) -> None:
        self._schedule, self._runs = schedule, list(runs)

    def runs(self, job: str | None = None, *, limit: int = 0) -> list[Run]:
        return self._runs[:limit]

    def schedules(self) -> dict[str, Schedule]:
        return {"own": self._schedule} if self._schedule else {}


def collected(folder: Path, dagster: Dagster) -> dict[str, float]:
    """Family, without the common prefix → the value of job `own`."""
    (folder / "own.toml").write_text(FILE)
    board = Board()
    JobCollector([folder], dagster, board, clock=NOW.timestamp).collect()
    names = ("failed", "late_seconds", "seconds", "success_timestamp_seconds")
    found = {name: board.get(f"headwater_job_{name}") for name in names}
    return {name: values[("own",)] for name, values in found.items() if values}


@pytest.mark.parametrize(
    ("schedule", "runs", "late"),
    [
        (Schedule("scheduled", LONG_AGO), [run("succeeded", DUE - timedelta(days=1))], 1_200.0),
        (Schedule("scheduled", LONG_AGO), [], 1_200.0),
        (Schedule("scheduled", LONG_AGO), [run("queued", DUE)], 0.0),
        (Schedule("scheduled", LONG_AGO), [run("failed", DUE + timedelta(seconds=1))], 0.0),
        (Schedule("scheduled", DUE + timedelta(seconds=1)), [], 0.0),  # resumed since
        (Schedule("scheduled", None), [], 0.0),
        (Schedule("paused", LONG_AGO), [], None),
        (None, [], None),
    ],
)
def test_a_job_is_late_from_its_hour_until_it_is_started(
    tmp_path: Path, schedule: Schedule | None, runs: list[Run], late: float | None
) -> None:
    assert collected(tmp_path, Dagster(schedule, *runs)).get("late_seconds") == late


def test_the_latest_run_that_is_over_counts_and_a_cancelled_one_does_not(tmp_path: Path) -> None:
    found = collected(
        tmp_path,
        Dagster(
            None,
            run("running", NOW),
            run("canceled", NOW - timedelta(hours=1)),
            run("failed", NOW - timedelta(hours=2), seconds=7),
            run("succeeded", NOW - timedelta(hours=3)),
        ),
    )
    succeeded = (NOW - timedelta(hours=3) + timedelta(seconds=60)).timestamp()
    assert found == {"failed": 1.0, "seconds": 7.0, "success_timestamp_seconds": succeeded}

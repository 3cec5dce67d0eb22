"""Compares Dagster's runs with the job files' schedules: did jobs run on time, how did they end?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from app.jobs.cron_schedule import last_due
from app.jobs.dagster_client import Run, Schedule
from app.jobs.job_file import Job, find_jobs
from app.metrics.board import Board

RUNS_ASKED = (
    10  # of a job: enough to find one that is over behind those that wait or were cancelled
)


class Dagster(Protocol):
    """What is asked of Dagster."""

    def runs(self, job: str | None = None, *, limit: int = ...) -> list[Run]: ...

    def schedules(self) -> dict[str, Schedule]: ...


class JobCollector:
    """Asks for the latest runs of each job."""

    name = "jobs"
    period_s = 30.0
    share = 0.005

    def __init__(
        self,
        folders: Sequence[Path],
        dagster: Dagster,
        board: Board,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folders = folders
        self._dagster = dagster
        self._board = board
        self._clock = clock

    def reset(self) -> None:
        pass  # the collector stores nothing; the last values stay until Dagster answers again

    def collect(self) -> None:
        now = datetime.fromtimestamp(self._clock(), timezone.utc)
        jobs, _ = find_jobs(*self._folders)
        schedules = self._dagster.schedules()
        failed, seconds, succeeded, late = {}, {}, {}, {}
        for name, file in jobs.items():
            runs = self._dagster.runs(name, limit=RUNS_ASKED)
            ended = [run for run in runs if run.state in ("succeeded", "failed")]
            if ended:
                failed[(name,)] = float(ended[0].state == "failed")
                seconds[(name,)] = ended[0].seconds or 0.0
            good = [run.ended for run in ended if run.state == "succeeded" and run.ended]
            if good:
                succeeded[(name,)] = good[0].timestamp()
            schedule = schedules.get(name)
            if schedule is not None and schedule.state == "scheduled":
                late[(name,)] = late_s(file.job, schedule.since, runs, now)
        self._board.replace("headwater_job_failed", failed)
        self._board.replace("headwater_job_seconds", seconds)
        self._board.replace("headwater_job_success_timestamp_seconds", succeeded)
        self._board.replace("headwater_job_late_seconds", late)


def late_s(job: Job, since: datetime | None, runs: list[Run], now: datetime) -> float:
    """Return how long ago a job should have been started; 0 if it was started.

    Args:
        since: when its schedule was started or resumed; times before that do not count.
        runs: the latest ones, the newest first.
    """
    assert job.schedule is not None
    due = last_due(job.schedule, job.timezone or "UTC", now)
    if due is None or since is None or due < since:
        return 0.0
    if any(run.created is not None and run.created >= due for run in runs):
        return 0.0
    return (now - due).total_seconds()

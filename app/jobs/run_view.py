"""Runs for users: Dagster's state of a run, and the records of its tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from app.errors import HeadwaterError
from app.jobs.dagster_client import DagsterClient, Run
from app.jobs.run_records import Record, read_records

POLL_S = 0.5
CUT_SHORT = "its run ended under it"


def find_run(client: DagsterClient, given: str) -> Run:
    """Return a run by its id or the beginning of its id, or the latest run of a job by the job's name."""
    recent = client.runs(limit=1_000)
    found = [run for run in recent if run.id.startswith(given)]
    if len(found) > 1:
        raise HeadwaterError(
            f"{len(found)} runs begin with `{given}`", hint="write more characters of the run's id"
        )
    found += [run for run in recent if run.job == given][:1]
    if not found:
        raise HeadwaterError(
            f"there is no run `{given}`", hint="`./headwater job status` lists the latest runs"
        )
    return found[0]


def attempts_of(run: Run, runs: Path) -> list[Record]:
    """Return the attempts of a run's tasks; one that was cut short with the run counts as failed."""
    found = []
    for record in read_records(runs / run.id):
        if record.state == "running" and run.is_over:
            record = record.model_copy(update={"state": "failed", "reason": CUT_SHORT})
        found.append(record)
    return found


def reason_of(run: Run, runs: Path) -> str:
    """Return why a run failed; "" for any other."""
    if run.state != "failed":
        return ""
    last = {record.task: record for record in attempts_of(run, runs)}
    failed = [f"{name}: {one.reason}" for name, one in last.items() if one.state == "failed"]
    return (
        "; ".join(failed)
        or "its process ended, or could not start: see `./headwater logs jobs-code`"
    )


def await_run(client: DagsterClient, id: str, note: Callable[[str], None]) -> Run:
    """Wait until a run has ended, reporting each change of its state."""
    said = ""
    while True:
        run = client.run(id)
        if run.is_over:
            return run
        if run.state != said:
            note(run.state)
            said = run.state
        time.sleep(POLL_S)

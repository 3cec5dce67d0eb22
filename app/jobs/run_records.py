"""The results of tasks on disk: `<runs>/<run>/<task>-<attempt>.json`, and `.log` with the task's output.

They are in the folder of the service `jobs-code`. Dagster records the runs; these files record each
task's resources, its report and the reason of a failure.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.launcher.state import Home

RUNS_KEPT = 1_000  # the newest ones; a run's files are some kB, a task's log 10 MB at most
RUN_FOLDER = "HEADWATER_JOB_RUN_FOLDER"  # a task's environment has these
TASK = "HEADWATER_JOB_TASK"  # JOB.TASK
SCRATCH = "scratch-"  # the prefix of folders in it that are removed after the task
PAGES_KEPT = 100  # the newest notebook pages of all runs; one with many charts takes some MB
PAGE_SUFFIX = ".html"
State = Literal["running", "succeeded", "failed", "skipped"]
Values = dict[str, bool | int | float | str | None]


class Ended(BaseModel):
    """The result of a task, which later tasks may test."""

    model_config = ConfigDict(frozen=True)

    state: State
    reason: str = ""
    values: Values = Field(default_factory=dict)


class Record(Ended):
    """One attempt of a task. Times are ISO 8601 in UTC; a skipped task has the same time twice.

    `memory_mb`: the peak memory of all its processes, sampled every half second. `read_versions`: the Delta versions of the tables of `reads` before the task began.
    `written`: the written tables, `schema.table` or `serving:NAME`, with the Delta version if it is known. `retry`: whether another attempt may succeed.
    """

    run: str
    job: str
    task: str
    kind: str
    attempt: int
    started: str
    ended: str | None = None
    cpu_s: float = 0.0
    memory_mb: int = 0
    rows_written: int | None = None
    read_versions: dict[str, int] = Field(default_factory=dict)
    written: dict[str, int | None] = Field(default_factory=dict)
    retry: bool = True


def runs_folder(home: Path) -> Path:
    """Return the folder of all runs; in the service itself the environment has it."""
    given = os.environ.get("HEADWATER_JOB_RUNS")
    return Path(given) if given else Home(home).data("jobs-code") / "runs"


def log_file(folder: Path, task: str, attempt: int) -> Path:
    """Return the file with an attempt's output, in the folder of its run."""
    return folder / f"{task}-{attempt}.log"


def page_file(folder: Path, task: str, attempt: int) -> Path | None:
    """Return the page of a notebook's attempt; None if there is none, or if it was removed."""
    path = log_file(folder, task, attempt).with_suffix(PAGE_SUFFIX)
    return path if path.exists() else None


def write_record(folder: Path, record: Record) -> None:
    """Write one attempt into its run's folder, completely or not at all."""
    target = folder / f"{record.task}-{record.attempt}.json"
    beside = target.with_suffix(".new")
    beside.write_text(record.model_dump_json())
    os.replace(beside, target)


def read_records(folder: Path) -> list[Record]:
    """Return the attempts of a run, in the order in which they began."""
    found = [Record.model_validate_json(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda record: (record.started, record.attempt))


def begin_run(runs: Path, run: str) -> Path:
    """Make the folder of a run, and remove the oldest folders beyond RUNS_KEPT, and old pages."""
    folder = runs / run
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in kept[:-RUNS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    pages = sorted(runs.glob(f"*/*{PAGE_SUFFIX}"), key=lambda path: path.stat().st_mtime)
    for page in pages[: -(PAGES_KEPT - 1)]:  # this run may add one
        page.unlink(missing_ok=True)
    return folder


def read_report(path: Path) -> dict[str, Any]:
    """Return a task's report; {} if there is none. Raises: ValueError if it is not a report."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found

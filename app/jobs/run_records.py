"""How tasks ended, on disk: `<runs>/<run>/<task>-<attempt>.json`, and `.log` with what it printed.

The folder of the service `jobs-code` holds them. Dagster keeps the runs; these files keep each
task's resources, its report and why it failed.
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
SCRATCH = "scratch-"  # begins the names of folders in it that are gone after the task
PAGES_KEPT = 100  # of notebooks, the newest of all runs; one with many charts is some MB
PAGE_SUFFIX = ".html"
State = Literal["running", "succeeded", "failed", "skipped"]
Values = dict[str, bool | int | float | str | None]


class Ended(BaseModel):
    """How a task ended: what tasks after it may ask for."""

    model_config = ConfigDict(frozen=True)

    state: State
    reason: str = ""
    values: Values = Field(default_factory=dict)


class Record(Ended):
    """One attempt of a task. Times are ISO 8601 in UTC, of a skipped task the same twice.

    `memory_mb`: the most that its processes held together, looked at every half second. `read_versions`: the Delta versions of the tables of `reads`, before the task began.
    `written`: what it has written, `schema.table` or `serving:NAME`, with the Delta version where that is known. `retry`: whether another attempt may succeed.
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
    """Return the folder of all runs; in the service itself it is in the environment."""
    given = os.environ.get("HEADWATER_JOB_RUNS")
    return Path(given) if given else Home(home).data("jobs-code") / "runs"


def log_file(folder: Path, task: str, attempt: int) -> Path:
    """Return where an attempt's output is, in the folder of its run."""
    return folder / f"{task}-{attempt}.log"


def page_file(folder: Path, task: str, attempt: int) -> Path | None:
    """Return the page that an attempt of a notebook has left; None where there is none, or not any more."""
    path = log_file(folder, task, attempt).with_suffix(PAGE_SUFFIX)
    return path if path.exists() else None


def write_record(folder: Path, record: Record) -> None:
    """Write one attempt into its run's folder, whole or not at all."""
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
    """Return what a task reported; {} if it reported nothing. Raises: ValueError for anything else."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found

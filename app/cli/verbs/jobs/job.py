"""`headwater job`: job files, checked, listed, added and removed; their runs are verbs of `runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from app.cli.options import FORMAT_OPTION
from app.cli.verbs.jobs import runs, serving
from app.printing import Format, print_object, print_rows

if TYPE_CHECKING:
    from app.environment.settings import Settings

app = typer.Typer(
    name="job",
    help="Jobs on the lake: their tasks, schedules and runs.",
    no_args_is_help=True,
)


@app.command("check")
def check(
    file: list[Path] = typer.Argument(None, help="Job files; all of the stack when left out."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Find every mistake in job files, with file, line and hint.

    Reads the files alone: no service needs to run. Without FILE those that `./headwater job list` shows.

    Examples:
      ./headwater job check
      ./headwater job check daily_orders.toml

    Exit codes:
      0  There are no mistakes. 1 There is a mistake.
    """
    from app.environment.settings import load
    from app.jobs.job_file import JobFileError, find_jobs, read_job
    from app.jobs.job_folder import job_folders

    folders = job_folders(load())
    if file:
        found, problems = [], []
        for path in file:
            try:
                found.append(read_job(path))
            except JobFileError as error:
                problems += error.problems
    else:
        by_name, problems = find_jobs(*folders)
        found = list(by_name.values())
    rows: list[tuple[Any, ...]] = [
        (str(one.file), one.line, "wrong", one.message, one.hint) for one in problems
    ]
    rows += [(str(one.path), None, "right", None, None) for one in found]
    print_rows(("file", "line", "verdict", "problem", "hint"), rows, fmt)
    if not rows:
        print(f"there are no job files in {folders[0]}", file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


@app.command("list")
def list_jobs(fmt: Format = FORMAT_OPTION) -> None:
    """List the jobs with their schedules: your own, and with the demo store those that come with it.

    `state` is `scheduled`, `paused`, `by hand`; empty if nothing runs jobs (`./headwater up
    --jobs`).

    Examples:
      ./headwater job list

    Exit codes:
      0  Every file is right.
      1  One is wrong; stderr says which.
    """
    from app.environment.settings import load
    from app.jobs.job_file import find_jobs
    from app.jobs.job_folder import job_folders

    settings = load()
    jobs, problems = find_jobs(*job_folders(settings))
    states = _schedule_states(settings) if settings.profile.jobs and jobs else None
    rows = [
        (
            name,
            one.job.schedule,
            one.job.timezone,
            None if states is None else states.get(name, "by hand"),
            len(one.job.tasks),
            str(one.path),
        )
        for name, one in sorted(jobs.items())
    ]
    print_rows(("job", "schedule", "timezone", "state", "tasks", "file"), rows, fmt)
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


def _schedule_states(settings: Settings) -> dict[str, str] | None:
    """Return Dagster's state of each schedule; None if it does not answer, which stderr says."""
    from app.errors import HeadwaterError
    from app.jobs.dagster_client import DagsterClient

    address = settings.ports.address("jobs")
    try:
        found = DagsterClient(f"http://{address}", timeout_s=5).schedules()
        return {name: one.state for name, one in found.items()}
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return None


@app.command("create")
def create(
    file: Path = typer.Argument(..., help="A job file."),
    replace: bool = typer.Option(False, "--replace", help="Overwrite existing files."),
) -> None:
    """Add a job: its file, and those that it names, are copied into the home's folder `jobs`.

    A Jupyter notebook of a task is converted to a marimo notebook beside it, and the job runs that one. Where Dagster
    runs (`./headwater up --jobs`), it takes the job over at once.

    Examples:
      ./headwater job create daily_orders.toml
      ./headwater job create daily_orders.toml --replace

    Exit codes:
      0  The job exists. 1 The file has mistakes, or would overwrite another; nothing was changed.
    """
    from app.environment.settings import load
    from app.jobs.job_folder import add_job

    settings = load()
    added = add_job(
        file,
        settings.home / "jobs",
        replace=replace,
        told=lambda line: print(line, file=sys.stderr),
    )
    print(f"{added.name}: {added.path}", file=sys.stderr)
    _reload(settings)


@app.command("delete")
def delete(job: str = typer.Argument(..., help="The job's name.")) -> None:
    """Remove a job: its file, and the files that only this job names. Records of its runs stay.

    Examples:
      ./headwater job delete daily_orders
    """
    from app.environment.settings import load
    from app.errors import HeadwaterError
    from app.jobs.job_folder import SHIPPED, remove_job

    settings = load()
    removed = remove_job(settings.home / "jobs", job)
    if not removed and (SHIPPED / f"{job}.toml").exists():
        raise HeadwaterError(
            f"`{job}` comes with the demo store", hint=f"`./headwater job pause {job}` stops it"
        )
    if not removed:
        raise HeadwaterError(f"there is no job `{job}`", hint="`./headwater job list` lists them")
    for path in removed:
        print(f"removed {path}", file=sys.stderr)
    _reload(settings)


def _reload(settings: Settings) -> None:
    """Let Dagster read the job files, if this stack runs it."""
    from app.jobs.dagster_client import DagsterClient

    if settings.profile.jobs:
        DagsterClient(f"http://{settings.ports.address('jobs')}").reload()
    else:
        print("nothing runs jobs yet: `./headwater up --jobs` does", file=sys.stderr)


@app.command("show")
def show(
    job: str = typer.Argument(..., help="The job's name."), fmt: Format = FORMAT_OPTION
) -> None:
    """Show one job: its tasks with their kinds and order; with --format json, all that its file says.

    Examples:
      ./headwater job show daily_orders
      ./headwater job show daily_orders --format json
    """
    from app.environment.settings import load
    from app.jobs.job_file import find_job
    from app.jobs.job_folder import job_folders

    found = find_job(job, *job_folders(load()))
    if fmt is Format.json:
        content = found.job.model_dump(exclude_none=True)
        print_object({"job": job, "file": str(found.path), **content}, fmt)
        return
    rows = [
        (name, task.kind, task.depends_on, task.when, task.retries, task.timeout)
        for name, task in found.job.tasks.items()
    ]
    print_rows(("task", "kind", "depends_on", "when", "retries", "timeout_s"), rows, fmt)


for verb in (
    runs.run, runs.status, runs.logs, runs.cancel, runs.pause, runs.resume,
    serving.published, serving.reader,
):  # fmt: skip
    app.command(verb.__name__)(verb)

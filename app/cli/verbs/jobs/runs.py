"""`headwater job run`, `status`, `logs`, `cancel`, `pause`, `resume`: runs of jobs in Dagster."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import typer

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_object, print_rows

if TYPE_CHECKING:
    from pathlib import Path

    from app.jobs.dagster_client import DagsterClient

RUN_COLUMNS = ("run", "job", "state", "by", "created", "seconds", "reason")
TASK_COLUMNS = (
    "task", "attempt", "state", "started", "ended", "cpu_s", "memory_mb", "rows_written", "values",
    "reason", "page",
)  # fmt: skip
RUN_ARGUMENT = typer.Argument(..., help="A run's id, its beginning, or a job for its latest run.")


def dagster() -> tuple[DagsterClient, Path]:
    """Return Dagster's interface, and the folder of the runs' records."""
    from app.environment.settings import load
    from app.jobs.dagster_client import DagsterClient
    from app.jobs.run_records import runs_folder

    settings = load()
    return DagsterClient(f"http://{settings.ports.address('jobs')}"), runs_folder(settings.home)


def run(
    job: str = typer.Argument(..., help="The job's name."),
    wait: bool = typer.Option(False, "--wait", help="Wait for its end."),
    given: list[str] = typer.Option([], "--set", help="A parameter, as NAME=VALUE."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Run a job now. A second run of the same job waits for the first.

    Examples:
      ./headwater job run daily_orders
      ./headwater job run daily_orders --wait --set days=7

    Exit codes:
      0  The run was queued; with --wait: it succeeded.
      1  It failed or was cancelled, or could not be queued.
    """
    from app.environment.settings import load
    from app.errors import HeadwaterError
    from app.jobs.job_file import find_job
    from app.jobs.job_folder import job_folders
    from app.jobs.run_view import await_run, reason_of
    from app.jobs.task_conditions import parameter_values

    texts = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals:
            raise HeadwaterError(f"--set {one} sets nothing", hint="write --set NAME=VALUE")
        texts[name] = text
    parameter_values(find_job(job, *job_folders(load())).job, texts)
    client, folder = dagster()
    launched = client.launch(job, texts)
    if wait:
        print(f"run {launched.id}", file=sys.stderr)
        launched = await_run(client, launched.id, lambda text: print(text, file=sys.stderr))
    found = {
        "run": launched.id,
        "job": job,
        "state": launched.state,
        "seconds": launched.seconds,
        "reason": reason_of(launched, folder),
    }
    print_object(found, fmt)
    raise typer.Exit(1 if launched.state in ("failed", "canceled") else 0)


def status(
    which: str = typer.Argument(
        None, metavar="[RUN]", help="A run's id, its beginning, or a job for its latest run."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show the latest runs, or the tasks of one run with their resources, reasons of failure, and notebook pages.

    Examples:
      ./headwater job status
      ./headwater job status daily_orders --format json
    """
    from app.jobs.run_records import page_file
    from app.jobs.run_view import attempts_of, find_run, reason_of

    client, folder = dagster()
    if which is None:
        rows = [
            (one.id, one.job, one.state, one.by, one.created, one.seconds, reason_of(one, folder))
            for one in client.runs()
        ]
        print_rows(RUN_COLUMNS, rows, fmt)
        return
    found = find_run(client, which)
    attempts = attempts_of(found, folder)
    print(f"run {found.id} of {found.job}: {found.state}", file=sys.stderr)
    pages = (page_file(folder / one.run, one.task, one.attempt) for one in attempts)
    told = [
        [getattr(one, name) for name in TASK_COLUMNS[:-1]] + [page and str(page)]
        for one, page in zip(attempts, pages, strict=True)
    ]
    print_rows(TASK_COLUMNS, told, fmt)


def logs(
    which: str = RUN_ARGUMENT,
    task: str = typer.Argument(None, help="One task; all of the run when left out."),
) -> None:
    """Print the output of a run's tasks, attempt by attempt.

    Examples:
      ./headwater job logs daily_orders
      ./headwater job logs daily_orders count
    """
    from app.errors import HeadwaterError
    from app.jobs.run_records import log_file
    from app.jobs.run_view import attempts_of, find_run

    client, folder = dagster()
    found = find_run(client, which)
    attempts = [one for one in attempts_of(found, folder) if task in (None, one.task)]
    if not attempts:
        what = f"task `{task}` has not run" if task else "no task has run"
        raise HeadwaterError(f"{what} in run {found.id}, which is {found.state}")
    for one in attempts:
        print(
            f"-- {one.task}, attempt {one.attempt}: {one.state} {one.reason}".rstrip(),
            file=sys.stderr,
        )
        path = log_file(folder / found.id, one.task, one.attempt)
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as file:
                shutil.copyfileobj(file, sys.stdout)
            sys.stdout.flush()


def cancel(which: str = RUN_ARGUMENT) -> None:
    """End a run: its task and all its processes are killed, and no other task of the run starts.

    Examples:
      ./headwater job cancel daily_orders
    """
    from app.jobs.run_view import find_run

    client, _ = dagster()
    found = find_run(client, which)
    if found.is_over:
        print(f"run {found.id} is over: {found.state}", file=sys.stderr)
        return
    client.cancel(found.id)
    print(f"asked run {found.id} to end", file=sys.stderr)


def pause(job: str = typer.Argument(..., help="The job's name.")) -> None:
    """Pause a job's schedule until `resume`; a run that has begun continues.

    Examples:
      ./headwater job pause daily_orders
    """
    dagster()[0].pause(job)


def resume(job: str = typer.Argument(..., help="The job's name.")) -> None:
    """Start a job by its schedule again; hours that passed meanwhile are left out.

    Examples:
      ./headwater job resume daily_orders
    """
    dagster()[0].resume(job)

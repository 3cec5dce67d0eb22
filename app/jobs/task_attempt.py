"""Runs one attempt of a task: `python -m app.jobs.task_attempt JOB TASK RUN NUMBER`, started by Dagster's run.

1. Read one line of JSON from standard input: the given parameters, and the results of earlier tasks.
2. Decide whether the task runs at all.
3. Start it: niced, the leader of a process group, its output into the attempt's log.
4. Await its end, its timeout, or the end of standard input (the run was cancelled or has ended).
   In the last two cases end the group: SIGTERM, TERM_WAIT_S later SIGKILL.
5. Record its result, with its CPU time, memory and report.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from app.environment.settings import ROOT, load
from app.jobs.job_file import JobFile, Parameter, find_job
from app.jobs.job_folder import job_folders
from app.jobs.report import REPORT
from app.jobs.run_records import (
    PAGE_SUFFIX,
    RUN_FOLDER,
    SCRATCH,
    TASK,
    Ended,
    Record,
    begin_run,
    log_file,
    read_report,
    runs_folder,
    write_record,
)
from app.jobs.task_conditions import filled, first_end, parameter_values
from app.jobs.task_model import (
    AnyTask,
    CommandTask,
    LoadTask,
    NotebookTask,
    PublishTask,
    PythonTask,
    SparkTask,
    SqlTask,
)
from app.processes.process import RealProcess, session_members, spawn

NICE = 10  # a lower priority than the stream and queries, for which users wait
TERM_WAIT_S = 5.0
STEP_S = 0.2
SAMPLE_S = 0.5  # between samples of its memory
LOG_BYTES_MAX = 10_000_000
REASON_CHARS_MAX = 300


def command_of(
    file: JobFile, task: AnyTask, values: Mapping[str, Parameter], scratch: Path
) -> list[str]:
    """Return the command of a task; the statements of one in SQL are written to `scratch`, a notebook's page beside it."""
    python = sys.executable
    if isinstance(task, SqlTask):
        text = task.statement or file.beside(task.file or "").read_text(encoding="utf-8")
        scratch.write_text(filled(text, values, sql=True), encoding="utf-8")
        return [python, "-m", "app.jobs.kinds.sql_task", str(scratch)]
    if isinstance(task, SparkTask):
        spark = [python, "-m", "app.jobs.kinds.spark_task", ",".join(task.reads)]
        given = task.module or str(file.beside(task.file or ""))
        return [*spark, given, *(filled(word, values) for word in task.arguments)]
    if isinstance(task, PythonTask):
        program = ["-m", task.module] if task.module else [str(file.beside(task.file or ""))]
        return [python, *program, *(filled(word, values) for word in task.arguments)]
    if isinstance(task, NotebookTask):
        run = [python, "-m", "app.jobs.kinds.notebook_task", str(file.beside(task.converted))]
        page = scratch.with_suffix(PAGE_SUFFIX)
        return [*run, str(page), *(filled(word, values) for word in task.arguments)]
    if isinstance(task, PublishTask):
        return [python, "-m", "app.serving.publish_task", task.table, task.name, *task.key]
    if isinstance(task, LoadTask):
        files = [filled(task.source, values), task.format, task.table]
        return [python, "-m", "app.jobs.load.load_task", *files, str(file.beside(task.contract))]
    assert isinstance(task, CommandTask), task.kind
    return [python, "-m", "app", *(filled(word, values) for word in task.arguments)]


class Output:
    """Copies a task's output to the log, which keeps LOG_BYTES_MAX of it."""

    def __init__(self, pipe: int, log: BinaryIO) -> None:
        self.pipe = pipe
        self._log = log
        self._left = LOG_BYTES_MAX

    def move(self) -> bool:
        """Copy the available output. Returns: whether there may be more."""
        try:
            data = os.read(self.pipe, 65_536)
        except BlockingIOError:
            return False
        if self._left > 0:
            self._log.write(data[: self._left])
            self._left -= len(data)
            if self._left <= 0:
                self._log.write(b"\nheadwater: the log is full; further output is dropped\n")
            self._log.flush()
        return bool(data)


@dataclass
class End:
    """The end of a task's process. `why`: why it was killed; "" if it ended by itself."""

    code: int
    why: str
    memory_mb: int


def await_end(process: RealProcess, output: Output, owner: int, timeout_s: float) -> End:
    """Wait for the end of a task, or end it.

    Args:
        owner: a descriptor that reaches its end when the process that waits for the task has ended.
    """
    give_up = time.monotonic() + timeout_s
    kill_at, why, memory_mb, sample_at = None, "", 0, time.monotonic() + STEP_S
    while True:
        code = process.exit_code()
        if code is not None:
            while output.move():
                pass
            return End(code, why, memory_mb)
        if time.monotonic() > sample_at:
            memory_mb = max(memory_mb, _memory_mb(process.pid))
            sample_at = time.monotonic() + SAMPLE_S
        watched = [output.pipe] if why else [output.pipe, owner]
        ready, _, _ = select.select(watched, [], [], STEP_S)
        if output.pipe in ready and not output.move():
            time.sleep(STEP_S)  # it has closed its output but keeps running
        if not why:
            if owner in ready and not os.read(owner, 4096):
                why = "its run was cancelled or has ended"
            elif time.monotonic() > give_up:
                why = f"it took longer than its timeout of {timeout_s:g} s"
            if why:
                os.killpg(process.pid, signal.SIGTERM)
                kill_at = time.monotonic() + TERM_WAIT_S
        elif kill_at is not None and time.monotonic() > kill_at:
            process.kill()


def _memory_mb(leader: int) -> int:
    """Return the current memory of a session's processes; shared pages count for each process."""
    held = 0
    for pid in session_members(leader):
        with contextlib.suppress(psutil.Error):
            held += psutil.Process(pid).memory_info().rss
    return held >> 20


def last_words(log: Path) -> str:
    """Return the last line that a task printed, with the indented ones below it, but no hint; shortened."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    found: list[str] = []
    for line in reversed(text.splitlines()):
        if line.strip() and not line.strip().startswith("hint:"):
            found.insert(0, line.strip())
        if found and not line.startswith((" ", "\t")):
            break
    return "; ".join(found)[:REASON_CHARS_MAX]


def _ended_by(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


@dataclass
class Attempt:
    """One attempt of one task in its run's folder."""

    file: JobFile
    name: str
    run: str
    number: int
    folder: Path

    @property
    def task(self) -> AnyTask:
        """The task's part of the job file."""
        return self.file.job.tasks[self.name]

    def run_it(
        self, given: Mapping[str, str], before: Mapping[str, Ended], owner: int, started: str
    ) -> Record:
        """Run the task, unless earlier results prevent it. Returns: the record of its end."""
        early = first_end(self.task, before) or self._lacks_memory()
        if early is not None:
            again = early.reason.startswith("memory")
            return self.record(early, started=started, ended=now(), retry=again)
        log = log_file(self.folder, self.name, self.number)
        report = log.with_suffix(".report")
        report.unlink(missing_ok=True)
        command = command_of(
            self.file,
            self.task,
            parameter_values(self.file.job, given),
            log.with_suffix(".sql"),
        )
        versions = delta_versions(reads_of(self.task))
        versions_before = delta_versions(writes_of(self.task))
        end = self._await(command, log, report, owner)
        for left in self.folder.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = self._judged(end, log, report)
        rows = ended.values.get("rows_written")
        return self.record(
            ended,
            started=started,
            ended=now(),
            read_versions=versions,
            written=self._written(versions_before) if ended.state == "succeeded" else {},
            cpu_s=round(used.ru_utime + used.ru_stime, 2),
            memory_mb=end.memory_mb,
            rows_written=rows if isinstance(rows, int) else None,
        )

    def _lacks_memory(self) -> Ended | None:
        needed, free = self.task.memory_mb, psutil.virtual_memory().available >> 20
        if needed is None or free >= needed:
            return None
        return Ended(state="failed", reason=f"memory: it needs {needed} MB, {free} MB are free")

    def _await(self, command: Sequence[str], log: Path, report: Path, owner: int) -> End:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DAGSTER_")}
        environment |= {
            REPORT: str(report),
            "HEADWATER_JOB": self.file.name,
            RUN_FOLDER: str(self.folder),
            TASK: f"{self.file.name}.{self.name}",
            "PYTHONPATH": str(ROOT),
        }
        inward, outward = os.pipe()
        os.set_blocking(inward, False)
        with log.open("wb") as sink:
            try:
                process = spawn(
                    command,
                    environment=environment,
                    folder=self.file.path.parent,
                    stdout=outward,
                    stderr=outward,
                )
            finally:
                os.close(outward)
            return await_end(process, Output(inward, sink), owner, self.task.timeout)

    def _written(self, before: Mapping[str, int]) -> dict[str, int | None]:
        """The tables that the task has written; of those with known versions only the ones with a new version."""
        if isinstance(self.task, PublishTask):
            return {f"serving:{self.task.name}": None}
        tables = writes_of(self.task)
        after = delta_versions(tables)
        return {
            one: after.get(one)
            for one in tables
            if one not in after or after[one] != before.get(one)
        }

    @staticmethod
    def _judged(end: End, log: Path, report: Path) -> Ended:
        if end.why:
            return Ended(state="failed", reason=end.why)
        if end.code:
            reason = ": ".join(filter(None, (_ended_by(end.code), last_words(log))))
            return Ended(state="failed", reason=reason)
        try:
            return Ended(state="succeeded", values=read_report(report))
        except ValueError as error:
            return Ended(state="failed", reason=f"its report cannot be read: {error}")

    def record(self, end: Ended, **more: object) -> Record:
        """Return the record of this attempt."""
        return Record.model_validate(
            {
                **end.model_dump(),
                "run": self.run,
                "job": self.file.name,
                "task": self.name,
                "kind": self.task.kind,
                "attempt": self.number,
                **more,
            }
        )


def reads_of(task: AnyTask) -> list[str]:
    """Return the tables of the lake that a task reads."""
    return [task.table] if isinstance(task, PublishTask) else task.reads


def writes_of(task: AnyTask) -> list[str]:
    """Return the tables of the lake that a task writes."""
    return [task.table] if isinstance(task, LoadTask) else task.writes


def delta_versions(tables: Sequence[str]) -> dict[str, int]:
    """Return the Delta version of each table whose folder has its name; Trino's own tables have other folders."""
    found: dict[str, int] = {}
    for name in tables:
        schema, _, table = name.partition(".")
        if schema in ("silver", "ops", "history", "ml", "files"):
            from spark_streaming.storage.lake import Lake
            from spark_streaming.storage.store_address import load_store

            lake = Lake(load_store())
            path = lake.silver_path(table) if schema == "silver" else f"{schema}/{table}"
            if lake.exists(path):
                found[name] = lake.table(path).version()
    return found


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")


def main(arguments: list[str]) -> int:
    """Run the attempt. Returns: 0 if its result was recorded, whatever it is."""
    job, name, run, number = arguments
    # Unbuffered, because `select` must see whatever follows the line.
    request = json.loads(os.fdopen(os.dup(0), "rb", buffering=0).readline())
    os.nice(NICE)
    settings = load()
    folder = begin_run(runs_folder(settings.home), run)
    attempt = Attempt(find_job(job, *job_folders(settings)), name, run, int(number), folder)
    started = now()
    write_record(folder, attempt.record(Ended(state="running"), started=started))
    before = {name: Ended.model_validate(one) for name, one in request["before"].items()}
    write_record(folder, attempt.run_it(request["parameters"], before, 0, started))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One attempt of a task as a real process: its end, timeout, output and remains."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.jobs import run_records
from app.jobs import task_attempt as module
from app.jobs.job_file import read_job
from app.jobs.run_records import (
    Ended,
    Record,
    begin_run,
    page_file,
    read_records,
    write_record,
)
from app.jobs.task_attempt import Attempt, command_of, last_words, now
from tests.support.waiting import until

CHILDREN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def owner() -> Iterator[tuple[int, int]]:
    """An attempt's standard input, which ends the attempt when it is closed."""
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; it may be a zombie, because some containers do not reap them."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def attempt(folder: Path, program: str, **more: object) -> Attempt:
    (folder / "task.py").write_text(program)
    keys = "".join(f"{key} = {value!r}\n" for key, value in more.items())
    (folder / "own.toml").write_text(f"[tasks.a]\nkind = 'python'\nfile = 'task.py'\n{keys}")
    run = folder / "run"
    run.mkdir()
    return Attempt(read_job(folder / "own.toml"), "a", "run", 1, run)


def run(one: Attempt, end_after_s: float | None = None) -> Record:
    with owner() as (read, write):
        if end_after_s is not None:
            timer = threading.Timer(end_after_s, os.close, [write])
            timer.start()
        try:
            return one.run_it({}, {}, read, now())
        finally:
            if end_after_s is None:
                os.close(write)
            else:
                timer.join()


def test_what_a_task_reports_prints_and_takes_is_recorded(tmp_path: Path) -> None:
    one = attempt(
        tmp_path,
        "from app.jobs.report import report\n"
        "report(rows=1, word='x')\nreport(rows=2, rows_written=3)\nprint('hello')\n"
        "import time; end = time.process_time() + 1.2\nkept = bytearray(50_000_000)\n"
        "while time.process_time() < end: pass\n",
    )
    found = run(one)
    assert (found.state, found.values, found.rows_written) == (
        "succeeded", {"rows": 2, "word": "x", "rows_written": 3}, 3,
    )  # fmt: skip
    assert found.cpu_s >= 1.2
    assert found.memory_mb > 50
    assert (tmp_path / "run" / "a-1.log").read_text() == "hello\n"


def test_a_failure_is_recorded_with_the_last_thing_that_was_said(tmp_path: Path) -> None:
    found = run(attempt(tmp_path, "print('first'); 1 / 0"))
    assert (found.state, found.reason) == (
        "failed", "exit code 1: ZeroDivisionError: division by zero",
    )  # fmt: skip


@pytest.mark.parametrize("cause", ["timeout", "owner"])
def test_a_task_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """It ignores SIGTERM, so that it has to be killed."""
    monkeypatch.setattr(module, "TERM_WAIT_S", 0.3)
    one = attempt(tmp_path, CHILDREN, timeout="1s" if cause == "timeout" else "60s")
    begun = time.monotonic()
    found = run(one, end_after_s=1.0 if cause == "owner" else None)
    assert time.monotonic() - begun < 20
    expected = {
        "timeout": "it took longer than its timeout of 1 s",
        "owner": "its run was cancelled or has ended",
    }
    assert (found.state, found.reason) == ("failed", expected[cause])
    child = int((tmp_path / "run" / "a-1.log").read_text())
    until(lambda: is_gone(child), within_s=10, what="the end of what it had started")


def test_a_log_ends_at_its_limit_and_the_task_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 1_000)
    found = run(attempt(tmp_path, "for _ in range(100_000): print('x' * 79)"))
    assert found.state == "succeeded"
    text = (tmp_path / "run" / "a-1.log").read_text()
    assert text.endswith("headwater: the log is full; further output is dropped\n")
    assert len(text) < 1_100


def test_a_task_that_needs_more_memory_than_is_free_does_not_start(tmp_path: Path) -> None:
    found = run(attempt(tmp_path, "print('ran')", memory_mb=1 << 20))
    assert (found.state, found.retry) == ("failed", True)
    assert found.reason.startswith("memory: it needs 1048576 MB, ")
    assert not (tmp_path / "run" / "a-1.log").exists()


def test_a_task_is_skipped_by_those_before_it(tmp_path: Path) -> None:
    one = attempt(tmp_path, "print('ran')")
    text = one.file.path.read_text()
    one.file.path.write_text(
        f"{text}depends_on = ['b']\n[tasks.b]\nkind = 'sql'\nstatement = '1'\n"
    )
    one.file = read_job(one.file.path)
    with owner() as (read, write):
        found = one.run_it({}, {"b": Ended(state="failed")}, read, now())
        os.close(write)
    assert (found.state, found.reason) == ("skipped", "`b` did not succeed: failed")


def test_statements_are_written_with_the_parameters_filled_in(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        "[parameters]\nword = 'x'\n[tasks.a]\nkind = 'sql'\nstatement = \"SELECT '${word}'\"\n"
        "[tasks.b]\nkind = 'command'\narguments = ['sql', '${word}']\n"
    )
    file, scratch = read_job(tmp_path / "own.toml"), tmp_path / "a.sql"
    command = command_of(file, file.job.tasks["a"], {"word": "it's"}, scratch)
    assert command == [sys.executable, "-m", "app.jobs.kinds.sql_task", str(scratch)]
    assert scratch.read_text() == "SELECT 'it''s'"
    command = command_of(file, file.job.tasks["b"], {"word": "it's"}, scratch)
    assert command == [sys.executable, "-m", "app", "sql", "it's"]


def test_a_program_on_spark_gets_the_tables_that_it_reads(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    (tmp_path / "own.toml").write_text(
        "[parameters]\nday = 1\n[tasks.a]\nkind = 'spark'\nfile = 'a.py'\n"
        "reads = ['silver.b', 'ml.c']\narguments = ['${day}']\n"
    )
    file = read_job(tmp_path / "own.toml")
    command = command_of(file, file.job.tasks["a"], {"day": 2}, tmp_path / "a.sql")
    assert command[3:] == ["silver.b,ml.c", str(tmp_path / "a.py"), "2"]


def test_a_notebook_gets_its_arguments_and_a_place_for_its_page(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text('{"nbformat": 4, "cells": []}')
    (tmp_path / "own.toml").write_text(
        "[parameters]\nday = 1\n[tasks.a]\nkind = 'notebook'\nfile = 'a.ipynb'\n"
        "arguments = ['--day', '${day}']\n"
    )
    file = read_job(tmp_path / "own.toml")
    command = command_of(file, file.job.tasks["a"], {"day": 2}, tmp_path / "a-1.sql")
    converted, page = str(tmp_path / "a.py"), str(tmp_path / "a-1.html")
    assert command[2:] == ["app.jobs.kinds.notebook_task", converted, page, "--day", "2"]


def test_the_pages_of_the_newest_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_records, "PAGES_KEPT", 3)
    for number in range(4):
        folder = begin_run(tmp_path, f"run{number}")
        (folder / "a-1.html").write_text("page")
        os.utime(folder / "a-1.html", (number, number))
    kept = [page_file(tmp_path / f"run{number}", "a", 1) for number in range(4)]
    assert [page is not None for page in kept] == [False, True, True, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\n", "two"),
        ("x\nfailed\n  detail: why\n  hint: do\n", "failed; detail: why"),
        ("", ""),
    ],
)
def test_the_last_words_are_the_message_without_its_hint(
    tmp_path: Path, text: str, expected: str
) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert last_words(log) == expected


def test_records_are_read_in_the_order_in_which_tasks_began(tmp_path: Path) -> None:
    for task, number, started in (("b", 2, "3"), ("a", 1, "1"), ("b", 1, "2")):
        write_record(
            tmp_path,
            Record(
                state="succeeded", run="r", job="j", task=task, kind="sql", attempt=number,
                started=started,
            ),
        )  # fmt: skip
    found = [(one.task, one.attempt) for one in read_records(tmp_path)]
    assert found == [("a", 1), ("b", 1), ("b", 2)]

"""Every mistake in a job file is found before a run, with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.jobs.job_file import JobFile, JobFileError, find_jobs, read_job
from app.jobs.task_model import PythonTask, SqlTask, ValueTest
from spark_streaming.contract.contract_files import Problem

WHOLE = """\
description = "Which movies sell"
schedule = "30 2 * * *"
timezone = "Europe/Berlin"

[parameters]
days = 30
since = 2026-01-01

[tasks.count]
kind = "sql"
statement = "SELECT count(*) AS rows FROM silver.orders WHERE placed_at > DATE '${since}'"
reads = ["silver.orders"]

[tasks.report]
kind = "python"
module = "app.jobs.job_file"
arguments = ["--days", "${days}"]
depends_on = ["count"]
when = "count.rows > 0"
retries = 2
retry_after = "1min"
timeout = "10min"
memory_mb = 512
writes = ["ml.report"]

[tasks.proof]
kind = "command"
arguments = ["verify"]
depends_on = ["report"]
when = "always"
"""
TASK = '[tasks.a]\nkind = "sql"\nstatement = "SELECT 1"\n'
OTHER = '[tasks.b]\nkind = "sql"\nstatement = "SELECT 1"\n'


def write(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(JobFileError) as caught:
        read_job(write(folder, text))
    return caught.value.problems


def read(folder: Path, text: str) -> JobFile:
    return read_job(write(folder, text))


def test_a_job_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    count, report = file.job.tasks["count"], file.job.tasks["report"]
    assert (file.name, file.job.schedule, list(file.job.tasks)) == (
        "own", "30 2 * * *", ["count", "report", "proof"],
    )  # fmt: skip
    assert isinstance(count, SqlTask)
    assert isinstance(report, PythonTask)
    assert (report.timeout, report.retry_after, report.retries) == (600.0, 60.0, 2)
    assert report.test == ValueTest(task="count", value="rows", operator=">", against=0)
    assert (count.test, count.timeout, count.retries) == (None, 3_600.0, 0)


LOAD = (
    "[tasks.a]\nkind = 'load'\nsource = '/in'\nformat = 'csv'\ntable = 'files.a'\n"
    "contract = 'files.contract.toml'\n"
)


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("shedule = '* * * * *'\n" + TASK, 1, "unknown key `shedule`", "did you mean `schedule`?"),
        ("\nschedule = '61 * * * *'\n" + TASK, 2, "minute `61` is outside 0-59", ""),
        ("schedule = '0 2 * * *'\ntimezone = 'CEST'\n" + TASK, 2, "no time zone `CEST`", ""),
        ("timezone = 'UTC'\n" + TASK, 1, "`timezone` needs `schedule`", ""),
        ("description = 'x'", 1, "`tasks` is missing", ""),
        ("[tasks]", 1, "`tasks`: Dictionary should have at least 1 item", "it is {}"),
        ("[tasks.'Ä b']\nkind = 'sql'\nstatement = 'x'", 1, "`Ä b` cannot be a name", "lower-case"),
        ("[tasks.a]\nstatement = 'x'", 1, "`tasks.a.kind` is missing", "one of sql, spark, python"),
        ("[tasks.a]\nkind = 'sqll'", 2, "`tasks.a.kind` cannot be 'sqll'", "did you mean `sql`?"),
        (TASK + "retry = 1", 4, "unknown key `retry`", "did you mean `retries`?"),
        (TASK + "retries = '1'", 4, "`tasks.a.retries`: Input should be a valid integer", "(str)"),
        (TASK + "timeout = 60", 4, "a duration is a number with a unit", ""),
        (TASK + "timeout = '48h'", 4, "less than or equal to 86400", "it is '48h'"),
        (TASK + "file = 'a.sql'", 1, "write either `statement` or `file`", ""),
        ("[tasks.a]\nkind = 'python'", 1, "write either `module` or `file`", ""),
        ("[tasks.a]\nkind = 'notebook'", 1, "`tasks.a.file` is missing", ""),
        (TASK + "reads = ['orders']", 4, "`orders` is not a table", ""),
        (TASK + "writes = ['silver.orders']", 4, "a job cannot write `silver.orders`", ""),
        (TASK + "depends_on = ['aa']\n" + OTHER, 4, "`a` depends on `aa`, which is not a task", "known are b"),
        (TASK + "depends_on = ['b']", 4, "which is not a task", "the job has no other task"),
        (TASK + "depends_on = ['a']", 4, "depend on each other in a cycle: a", "`depends_on`"),
        (TASK + "when = 'any_failed'", 1, "needs `depends_on`", ""),
        (TASK + "when = 'sometimes'", 4, "'sometimes' is not a test; write all_succeeded", ""),
        (OTHER + "depends_on = ['a']\nwhen = 'a.rows > x'\n" + TASK, 5, "`x` is not a number", ""),
        (OTHER + "depends_on = ['a']\nwhen = 'a.ok > true'\n" + TASK, 5, "compares numbers", ""),
        (OTHER + "when = 'a.rows > 1'\n" + TASK, 4, "on which it does not depend", "name it in"),
        (TASK + "when = 'c.rows > 1'\n" + OTHER, 4, "tests a value of `c`", "known are a, b"),
        ("[tasks.a]\nkind = 'python'\nmodule = 'json.nothing'", 3, "no module", "`file`"),
        ("[tasks.a]\nkind = 'python'\nmodule = 'nobody.has_it'", 3, "no module", "`file`"),
        ("[tasks.a]\nkind = 'python'\nfile = 'n.py'", 3, "there is no file", "a path is relative to"),
        ("[tasks.a]\nkind = 'notebook'\nfile = 'own.toml'", 1, "`own.toml` is not a notebook", "makes notebooks"),
        (LOAD.replace(".contract", ""), 6, "does not end with `.contract.toml`", ""),
        (LOAD.replace("/in", "in"), 3, "'in' is neither an absolute folder", ""),
        ("[tasks.a__b]\nkind = 'sql'\nstatement = '1'", 1, "`a__b` cannot be a name", "single `_`"),
        ("[tasks.a]\nkind = 'sql'\nstatement = '${days}'", 3, "`${days}` is not a parameter", "add it"),
        ("[parameters]\na = [1]\n" + TASK, 2, "`parameters.a`: a number, text, true, false or a", ""),
        ("[parameters]\nA = 1\n" + TASK, 2, "`A` cannot be a name", "lower-case"),
        ("[tasks]\na = 1", 2, "`tasks.a`: Input should be a valid dictionary", "it is 1"),
        ("a = [", 1, "not TOML", ""),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_and_what_to_do(
    tmp_path: Path, text: str, line: int, message: str, hint: str
) -> None:
    [problem] = problems(tmp_path, text)
    assert (problem.line, problem.file.name) == (line, "own.toml")
    assert message in problem.message
    assert hint in problem.hint


def test_mistakes_of_a_contract_of_files_have_their_lines_there(tmp_path: Path) -> None:
    write(tmp_path, '[columns.a]\ntype = "money"\n', "files.contract.toml")
    [problem] = problems(tmp_path, LOAD)
    assert sorted(find_jobs(tmp_path)[0]) == [] and len(find_jobs(tmp_path)[1]) == 1
    assert (problem.file.name, problem.line) == ("files.contract.toml", 2)


def test_a_circle_of_several_tasks_is_one_mistake(tmp_path: Path) -> None:
    text = "".join(
        f"[tasks.{name}]\nkind = 'sql'\nstatement = 'x'\ndepends_on = ['{before}']\n"
        for name, before in (("a", "c"), ("b", "a"), ("c", "b"), ("after", "b"))
    )
    [problem] = problems(tmp_path, text)
    assert problem.message == "these tasks depend on each other in a cycle: a, b, c"


def test_all_mistakes_of_a_file_are_found_at_once(tmp_path: Path) -> None:
    text = TASK + "retries = 11\ntimout = '1s'\n" + OTHER + "when = 'never'\n"
    assert [problem.line for problem in problems(tmp_path, text)] == [4, 5, 9]


def test_an_unknown_parameter_in_a_file_of_sql_has_the_line_there(tmp_path: Path) -> None:
    write(tmp_path, "SELECT 1\nWHERE x > ${dais}\n", "a.sql")
    text = "[parameters]\ndays = 1\n[tasks.a]\nkind = 'sql'\nfile = 'a.sql'"
    [problem] = problems(tmp_path, text)
    assert (problem.file.name, problem.line) == ("a.sql", 2)
    assert problem.hint == "did you mean `days`?"


def test_a_wrong_file_keeps_no_other_job_from_being_found(tmp_path: Path) -> None:
    write(tmp_path, TASK, "right.toml")
    write(tmp_path, "tasks = 1", "wrong.toml")
    write(tmp_path, TASK, "Not a name.toml")
    jobs, found = find_jobs(tmp_path)
    assert list(jobs) == ["right"]
    assert sorted(problem.file.name for problem in found) == ["Not a name.toml", "wrong.toml"]
    assert find_jobs(tmp_path / "missing") == ({}, [])

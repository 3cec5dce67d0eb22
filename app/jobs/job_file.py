"""Reads job files, `jobs/<job>.toml` with one job each, and reports every mistake with its line.

1. The content is read by closed models (`Job`, `task_model`).
2. References between tasks are checked: `depends_on`, cycles, tests of values.
3. Names of things outside the file are checked: files, modules, parameters.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from app.errors import HeadwaterError
from app.jobs.cron_schedule import checked_schedule, checked_timezone
from app.jobs.task_model import CONTRACT_SUFFIX, KINDS, AnyTask, Closed, Task
from app.notebooks.notebook_file import notebook_mistakes
from spark_streaming.contract.contract_files import ContractFileError, Problem, near, read_keys
from spark_streaming.contract.toml_lines import line_of

# Without `__`, which separates the names of a job and a task in Dagster.
NAME = r"^[a-z](_?[a-z0-9])*$"
NAME_CHARS_MAX = 48
Name = Annotated[str, Field(pattern=NAME, max_length=NAME_CHARS_MAX)]
Parameter = bool | int | float | str | dt.date
Place = tuple[str | int, ...]
PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_NAME_HINT = "a name begins with a letter and has at most 48 lower-case letters, digits and single `_` between them"


class JobFileError(HeadwaterError):
    """A job file is invalid; `problems` has each mistake with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class Job(Closed):
    """The content of a job file. `timezone` is UTC by default."""

    description: str = ""
    schedule: str | None = None
    timezone: str | None = None
    parameters: dict[Name, Parameter] = Field(default_factory=dict, max_length=50)
    tasks: dict[Name, AnyTask] = Field(min_length=1, max_length=100)

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, text: str | None) -> str | None:
        return None if text is None else checked_schedule(text)

    @field_validator("timezone")
    @classmethod
    def _is_a_timezone(cls, name: str | None) -> str | None:
        return None if name is None else checked_timezone(name)

    @model_validator(mode="after")
    def _has_a_use_for_the_zone(self) -> Job:
        if self.timezone is not None and self.schedule is None:
            raise ValueError("`timezone` needs `schedule`")
        return self


@dataclass(frozen=True)
class JobFile:
    """A valid job file."""

    path: Path
    job: Job

    @property
    def name(self) -> str:
        """The job's name, which is the file's."""
        return self.path.stem

    def beside(self, name: str) -> Path:
        """Return a file that the job names: relative to the job file's folder."""
        return self.path.parent / Path(name).expanduser()


def find_jobs(*folders: Path) -> tuple[dict[str, JobFile], list[Problem]]:
    """Read the job files of folders, which need not exist: the jobs by name, and each mistake.

    The contracts of files in the same folder are not jobs.
    If two files have the same name, the one in the first folder is used.
    """
    found: dict[str, JobFile] = {}
    problems: list[Problem] = []
    paths = {
        path.stem: path
        for one in reversed(folders)
        for path in one.glob("*.toml")
        if not path.name.endswith(CONTRACT_SUFFIX)
    }
    for _, path in sorted(paths.items()):
        try:
            found[path.stem] = read_job(path)
        except JobFileError as error:
            problems += error.problems
    return found, problems


def find_job(name: str, *folders: Path) -> JobFile:
    """Return one job of `find_jobs`. Raises: JobFileError if its file is invalid; HeadwaterError if there is none."""
    jobs, problems = find_jobs(*folders)
    if name in jobs:
        return jobs[name]
    if own := [one for one in problems if one.file.stem == name]:
        raise JobFileError(own)
    hint = near(name, jobs) if jobs else "`./headwater job list` lists them"
    raise HeadwaterError(f"there is no job `{name}`", hint=hint)


def read_job(path: Path) -> JobFile:
    """Read one job file. Raises: JobFileError with each mistake, its line and a hint."""
    if not re.fullmatch(NAME, path.stem) or len(path.stem) > NAME_CHARS_MAX:
        raise JobFileError([Problem(path, 1, f"`{path.stem}` cannot name a job", _NAME_HINT)])
    try:
        given, lines = read_keys(path)
    except ContractFileError as error:
        raise JobFileError(error.problems) from error
    try:
        file = JobFile(path, Job.model_validate(given))
    except ValidationError as error:
        raise JobFileError(_model_problems(path, lines, error)) from None
    problems = [
        Problem(path, line_of(lines, place), message, hint)
        for place, message, hint in (*_order_mistakes(file.job), *_outside_mistakes(file))
    ]
    problems += [
        *_statement_file_problems(file), *_contract_problems(file), *_notebook_problems(file),
    ]  # fmt: skip
    if problems:
        raise JobFileError(sorted(problems, key=lambda problem: (problem.file, problem.line)))
    return file


def upstream(tasks: dict[str, Any], name: str) -> set[str]:
    """Return all tasks that a task waits for, directly or not; includes the task itself in a cycle."""
    found: set[str] = set()
    waiting = list(tasks[name].depends_on)
    while waiting:
        one = waiting.pop()
        if one not in found and one in tasks:
            found.add(one)
            waiting += tasks[one].depends_on
    return found


def _order_mistakes(job: Job) -> Iterator[tuple[Place, str, str]]:
    for name, task in job.tasks.items():
        place: Place = ("tasks", name, "depends_on")
        for other in task.depends_on:
            if other not in job.tasks:
                others = [one for one in job.tasks if one != name]
                hint = near(other, others) if others else "the job has no other task"
                yield place, f"`{name}` depends on `{other}`, which is not a task", hint
        before = upstream(job.tasks, name)
        if name in before:
            circle = sorted(one for one in before if name in upstream(job.tasks, one))
            if name == circle[0]:  # each cycle is one mistake
                message = f"these tasks depend on each other in a cycle: {', '.join(circle)}"
                yield place, message, "remove one of them from the `depends_on` of another"
        test = task.test
        if test is not None and test.task not in before:
            message = f"`{name}` tests a value of `{test.task}`, on which it does not depend"
            hint = (
                "name it in `depends_on`" if test.task in job.tasks else near(test.task, job.tasks)
            )
            yield ("tasks", name, "when"), message, hint


def _outside_mistakes(file: JobFile) -> Iterator[tuple[Place, str, str]]:
    for name, task in file.job.tasks.items():
        for key in ("file", "contract"):
            given = getattr(task, key, None)
            if given is not None and not file.beside(given).is_file():
                hint = f"a path is relative to the job file's folder, {file.path.parent}"
                yield ("tasks", name, key), f"there is no file {file.beside(given)}", hint
        module = getattr(task, "module", None)
        if module is not None and not _exists(module):
            hint = "for a file of your own, write its path as `file`"
            yield ("tasks", name, "module"), f"there is no module `{module}`", hint
        for key, text in _texts(task):
            for message, hint in _placeholder_mistakes(file.job, text):
                yield ("tasks", name, key), message, hint


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a parent package does not exist
        return False


def _texts(task: Task) -> Iterator[tuple[str, str]]:
    """The texts of a task that may contain parameters, with their keys."""
    for key in ("statement", "source"):
        if (text := getattr(task, key, None)) is not None:
            yield key, text
    for text in getattr(task, "arguments", ()):
        yield "arguments", text


def _placeholder_mistakes(job: Job, text: str) -> Iterator[tuple[str, str]]:
    for name in PLACEHOLDER.findall(text):
        if name not in job.parameters:
            known = near(name, job.parameters) if job.parameters else "add it to `[parameters]`"
            yield f"`${{{name}}}` is not a parameter of the job", known


def _statement_file_problems(file: JobFile) -> list[Problem]:
    """Return the unknown parameters in files of SQL, at their lines there."""
    found: list[Problem] = []
    for task in file.job.tasks.values():
        path = file.beside(task.file) if task.kind == "sql" and task.file is not None else None
        if path is None or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            found.append(Problem(path, 1, f"cannot be read: {error}"))
            continue
        found += [
            Problem(path, number, *mistake)
            for number, line in enumerate(lines, start=1)
            for mistake in _placeholder_mistakes(file.job, line)
        ]
    return found


def _contract_problems(file: JobFile) -> list[Problem]:
    """Return the mistakes in the contracts of `load` tasks, at their lines there."""
    from app.jobs.load.file_contract import read_file_contract  # imports pyarrow, which costs 0.2 s

    found: list[Problem] = []
    for task in file.job.tasks.values():
        path = file.beside(task.contract) if task.kind == "load" else None
        if path is not None and path.is_file():
            try:
                read_file_contract(path)
            except ContractFileError as error:
                found += error.problems
    return found


def _notebook_problems(file: JobFile) -> list[Problem]:
    """Return the mistakes in the files of `notebook` tasks, at their lines there."""
    tasks = (task for task in file.job.tasks.values() if task.kind == "notebook")
    paths = sorted({file.beside(task.file) for task in tasks})
    return [
        Problem(path, *mistake)
        for path in paths
        if path.is_file()
        for mistake in notebook_mistakes(path)
    ]


def _model_problems(path: Path, lines: dict[Place, int], error: ValidationError) -> list[Problem]:
    found: dict[Place, Problem] = {}
    for item in error.errors(include_url=False):
        loc = tuple(item["loc"])
        # After a task's name pydantic adds the kind, after a wrong name "[key]".
        place: Place = loc[:2] + loc[3:] if loc[:1] == ("tasks",) and len(loc) > 2 else loc
        if item["type"] == "union_tag_invalid":
            place = (*place, "kind")
        elif item["type"] not in ("extra_forbidden", "missing"):
            while place and place not in lines:
                place = place[:-1]
        name = ".".join(map(str, place))
        message, hint = _explained(item, place, name)
        found.setdefault(place, Problem(path, line_of(lines, place), message, hint))
    return sorted(found.values(), key=lambda problem: problem.line)


def _explained(item: Any, place: Place, name: str) -> tuple[str, str]:
    """Return the message and the hint of one of pydantic's errors."""
    kind, given = item["type"], item.get("input")
    kinds = ", ".join(KINDS)
    if kind == "extra_forbidden":
        in_task = place[:1] == ("tasks",)
        known = KINDS[str(item["loc"][2])] if in_task else Job
        return f"unknown key `{place[-1]}`", near(str(place[-1]), known.model_fields)
    if kind == "union_tag_not_found":
        return f"`{name}.kind` is missing", f"one of {kinds}"
    if kind == "union_tag_invalid":
        wrong = item["ctx"]["tag"]
        return f"`{name}` cannot be {wrong!r}", near(wrong, KINDS)
    if kind == "missing":
        return f"`{name}` is missing", ""
    if kind == "value_error":
        return (f"`{name}`: " if name else "") + str(item["ctx"]["error"]), ""
    if kind == "literal_error":
        return f"`{name}` cannot be {given!r}", f"one of {item['ctx']['expected']}"
    if place[:1] == ("parameters",) and len(place) > 1 and item["loc"][-1] != "[key]":
        return f"`{name}`: a number, text, true, false or a date is expected", ""
    if item["loc"][-1] == "[key]":
        return f"`{item['loc'][-2]}` cannot be a name", _NAME_HINT
    return f"`{name}`: {item['msg']}", f"it is {given!r} ({type(given).__name__}) here"

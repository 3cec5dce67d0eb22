"""Decides from the results of earlier tasks whether a task runs; fills in a job's parameters."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from typing import Any

from app.errors import HeadwaterError
from app.jobs.job_file import PLACEHOLDER, Job, Parameter
from app.jobs.run_records import Ended
from app.jobs.task_model import Task, ValueTest
from spark_streaming.contract.contract_files import near

_COMPARE = {
    "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def first_end(task: Task, before: Mapping[str, Ended]) -> Ended | None:
    """Return the result of a task that does not run, skipped or failed; None if it runs.

    Args:
        before: the results of the tasks on which it depends, directly or through others.
    """
    states = {name: before[name].state for name in task.depends_on}
    if task.when == "always":
        return None
    if task.when == "any_failed":
        if "failed" in states.values():
            return None
        return Ended(state="skipped", reason="no task of `depends_on` failed")
    other = next((name for name, state in states.items() if state != "succeeded"), None)
    if other is not None:
        return Ended(state="skipped", reason=f"`{other}` did not succeed: {states[other]}")
    return None if task.test is None else _tested(task.test, before[task.test.task])


def _tested(test: ValueTest, ended: Ended) -> Ended | None:
    if ended.state != "succeeded":
        return Ended(state="skipped", reason=f"`{test.task}` did not succeed: {ended.state}")
    if test.value not in ended.values:
        known = ", ".join(ended.values) or "nothing"
        reason = f"`{test.task}` reported no value `{test.value}`; it reported {known}"
        return Ended(state="failed", reason=reason)
    value: Any = ended.values[test.value]
    try:
        holds = _COMPARE[test.operator](value, test.against)
    except TypeError:
        reason = f"`{test.task}.{test.value}` is {value!r}, which `{test.operator}` cannot compare"
        return Ended(state="failed", reason=reason)
    if holds:
        return None
    return Ended(state="skipped", reason=f"`{test.task}.{test.value}` is {value!r}")


def parameter_values(job: Job, given: Mapping[str, str]) -> dict[str, Parameter]:
    """Return the value of each parameter: its default, or the given text converted to the default's type.

    Raises: HeadwaterError for an unknown name, or a text that cannot be converted.
    """
    values = dict(job.parameters)
    for name, text in given.items():
        if name not in values:
            hint = near(name, values) if values else "the job has no parameters"
            raise HeadwaterError(f"`{name}` is not a parameter of the job", hint=hint)
        values[name] = _parsed(name, text, values[name])
    return values


def _parsed(name: str, text: str, default: Parameter) -> Parameter:
    read: dict[type, Callable[[str], Parameter]] = {
        bool: {"true": True, "false": False}.__getitem__,
        int: int,
        float: float,
        str: str,
        dt.date: dt.date.fromisoformat,
    }
    try:
        return read[type(default)](text)
    except (KeyError, ValueError):
        raise HeadwaterError(
            f"parameter `{name}` cannot be {text!r}", hint=f"its default is {_text(default)}"
        ) from None


def filled(text: str, values: Mapping[str, Parameter], *, sql: bool = False) -> str:
    """Replace each `${parameter}` by its value; `sql`: a single quote in it is doubled."""

    def value(name: str) -> str:
        found = _text(values[name])
        return found.replace("'", "''") if sql else found

    return PLACEHOLDER.sub(lambda match: value(match[1]), text)


def _text(value: Parameter) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

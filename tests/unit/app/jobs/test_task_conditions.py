"""Whether a task runs, by the results of earlier tasks; and the values of parameters."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from app.errors import HeadwaterError
from app.jobs.job_file import Job
from app.jobs.run_records import Ended, State
from app.jobs.task_conditions import filled, first_end, parameter_values
from app.jobs.task_model import SqlTask


def task(when: str, *depends_on: str) -> SqlTask:
    return SqlTask(kind="sql", statement="SELECT 1", when=when, depends_on=list(depends_on))


def ended(state: State, **values: Any) -> Ended:
    return Ended(state=state, values=values)


def outcome(when: str, **before: Ended) -> tuple[str, str]:
    found = first_end(task(when, *before), before)
    return ("runs", "") if found is None else (found.state, found.reason)


@pytest.mark.parametrize(
    ("when", "states", "expected"),
    [
        ("all_succeeded", ("succeeded", "succeeded"), "runs"),
        ("all_succeeded", ("succeeded", "failed"), "skipped"),
        ("all_succeeded", ("succeeded", "skipped"), "skipped"),
        ("any_failed", ("succeeded", "failed"), "runs"),
        ("any_failed", ("succeeded", "skipped"), "skipped"),
        ("always", ("failed", "skipped"), "runs"),
    ],
)
def test_how_those_before_it_ended_decides(
    when: str, states: tuple[State, State], expected: str
) -> None:
    assert outcome(when, a=ended(states[0]), b=ended(states[1]))[0] == expected


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        ("a.rows > 0", 1, "runs"),
        ("a.rows > 0", 0, "skipped"),
        ("a.rows == 1.5", 1.5, "runs"),
        ("a.rows != 'x'", "y", "runs"),
        ("a.rows == true", False, "skipped"),
        ("a.rows > 0", "many", "failed"),
        ("a.rows > 0", None, "failed"),
    ],
)
def test_a_value_that_an_earlier_task_reported_decides(
    test: str, value: Any, expected: str
) -> None:
    assert outcome(test, a=ended("succeeded", rows=value))[0] == expected


def test_a_test_of_a_value_that_was_not_reported_fails_and_names_what_was() -> None:
    found = outcome("a.rows > 0", a=ended("succeeded", count=3))
    assert found == ("failed", "`a` reported no value `rows`; it reported count")


def test_a_test_runs_nothing_where_one_of_those_before_failed() -> None:
    found = outcome("a.rows > 0", a=ended("succeeded", rows=1), b=ended("failed"))
    assert found == ("skipped", "`b` did not succeed: failed")


JOB = Job.model_validate(
    {
        "parameters": {"days": 30, "all": False, "since": dt.date(2026, 1, 2), "word": "it's"},
        "tasks": {"a": {"kind": "sql", "statement": "SELECT 1"}},
    }
)


def test_a_parameter_that_is_given_has_the_type_of_its_default() -> None:
    given = {"days": "7", "all": "true", "since": "2026-02-03"}
    assert parameter_values(JOB, given) == {
        "days": 7, "all": True, "since": dt.date(2026, 2, 3), "word": "it's",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"dais": "7"}, "`dais` is not a parameter of the job", "days"),
        ({"days": "many"}, "parameter `days` cannot be 'many'", "its default is 30"),
        ({"all": "yes"}, "parameter `all` cannot be 'yes'", "its default is false"),
        ({"since": "today"}, "parameter `since` cannot be 'today'", "its default is 2026-01-02"),
    ],
)
def test_a_wrong_parameter_is_refused(given: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(HeadwaterError) as caught:
        parameter_values(JOB, given)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_a_text_in_sql_cannot_end_its_quotes() -> None:
    values = parameter_values(JOB, {})
    assert filled("'${word}' ${all} ${since}", values, sql=True) == "'it''s' false 2026-01-02"
    assert filled("${word}", values) == "it's"

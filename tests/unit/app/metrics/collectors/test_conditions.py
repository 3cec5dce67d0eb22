"""Contract conditions on whole tables: their queries, when they run, and what counts as a breach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.metrics.board import Board
from app.metrics.collectors.conditions import (
    FAILED_AGAIN_S,
    ConditionCollector,
    Watched,
    statement,
)
from spark_streaming.contract.contract_files import TableCondition

BREACHED, ANSWERED, VALUE = (
    f"headwater_condition_{name}" for name in ("breached", "answered", "value")
)
NAME = ("orders", "total")


def condition(**given: Any) -> TableCondition:
    """A condition in the form of a contract file, with durations as texts."""
    return TableCondition.model_validate({"name": "total", "value": "sum(total)", **given})


def breaches(given: TableCondition, *values: float | None) -> list[bool]:
    """Whether each of these values, one minute apart, is a breach."""
    watched = Watched(given)
    found = []
    for minute, value in enumerate(values):
        watched.add(minute * 60.0, value)
        found.append(watched.breached)
    return found


class Trino:
    """Answers in the given order; an exception is raised."""

    def __init__(self, *answers: float | Exception | None) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def __call__(self, sql: str) -> float | None:
        self.asked.append(sql)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Rounds:
    """A collector with a test clock; each query has its answer before the next collection."""

    def __init__(self, ask: Callable[[str], float | None], given: TableCondition) -> None:
        self.now = 0.0
        self.board = Board()
        self.conditions = [("orders", given)]
        self.collector = ConditionCollector(
            lambda: self.conditions, ask, self.board, clock=lambda: self.now
        )

    def look(self, after_s: float) -> dict[str, float | None]:
        """Collect twice, `after_s` later: once to send queries, once to report. Returns: value by family."""
        self.now += after_s
        self.collector.collect()
        question = self.collector._question
        if question is not None:
            question.join(timeout=10)
        self.collector.collect()
        return {name: self.board.get(name).get(NAME) for name in (VALUE, BREACHED, ANSWERED)}


def test_the_question_is_one_number_over_the_rows_of_where() -> None:
    assert statement("sales__items", condition(max=1)) == (
        'SELECT CAST((sum(total)) AS double) FROM lake.silver."sales__items"'
    )
    assert statement("orders", condition(max=1, where="total > 0")).endswith(" WHERE total > 0")


def test_a_value_beyond_a_bound_is_a_breach_and_a_null_is_none() -> None:
    assert breaches(condition(min=1, max=5), 0, 1, 5, 6, None) == [True, False, False, True, False]


def test_a_fall_is_measured_against_the_highest_value_of_the_window() -> None:
    given = condition(max_fall=0.2, over="2min")
    assert breaches(given, 100, 81, 79, 79, 79) == [False, False, True, False, False]
    assert breaches(given, 50, 100, 100, 10, 100) == [False, False, False, True, False]


def test_a_condition_is_asked_at_its_own_pace() -> None:
    trino = Trino(1.0, 2.0)
    rounds = Rounds(trino, condition(max=1, every="2min"))
    assert rounds.look(0)[BREACHED] == 0
    for _ in range(3):
        rounds.look(30)
    assert len(trino.asked) == 1
    assert rounds.look(30) == {VALUE: 2, BREACHED: 1, ANSWERED: 1}


def test_a_breach_stays_while_trino_cannot_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    down = OSError("nobody there")
    rounds = Rounds(Trino(7.0, down, down, 0.0), condition(max=1))
    assert rounds.look(0)[BREACHED] == 1
    assert rounds.look(60) == {VALUE: 7, BREACHED: 1, ANSWERED: 0}
    assert rounds.look(FAILED_AGAIN_S)[ANSWERED] == 0
    assert rounds.look(FAILED_AGAIN_S) == {VALUE: 0, BREACHED: 0, ANSWERED: 1}
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "condition total of orders: nobody there",
        "condition total of orders: works again",
    ]


def test_a_condition_that_was_never_answered_is_no_breach_and_told_as_unanswered() -> None:
    rounds = Rounds(Trino(ValueError("no such column")), condition(max=1))
    assert rounds.look(0) == {VALUE: None, BREACHED: None, ANSWERED: 0}


def test_a_changed_condition_begins_again_and_a_removed_one_has_no_series() -> None:
    rounds = Rounds(Trino(100.0, 10.0), condition(max_fall=0.5))
    rounds.look(0)
    rounds.conditions = [("orders", condition(max_fall=0.6))]
    assert rounds.look(1) == {VALUE: 10, BREACHED: 0, ANSWERED: 1}
    rounds.conditions = []
    assert rounds.look(1) == {VALUE: None, BREACHED: None, ANSWERED: None}

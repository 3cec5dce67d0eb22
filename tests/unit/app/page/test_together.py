"""Questions that are asked at once, and one that does not answer."""

from __future__ import annotations

import threading

import pytest

from app.page.together import Together
from tests.support.waiting import until


def test_a_question_that_does_not_answer_holds_up_no_other_and_is_not_asked_again_meanwhile() -> (
    None
):
    begun: list[str] = []
    answered = threading.Event()

    def slow() -> str:
        begun.append("slow")
        answered.wait(30)
        return "late"

    together: Together[str] = Together()
    questions = {"slow": slow, "quick": lambda: "at once"}
    assert together.ask(questions, 0.1).get("slow") is None
    assert together.ask({"quick": lambda: "again"}, 30) == {"quick": "again"}
    assert together.ask({"slow": slow}, 0.01) == {}
    assert begun == ["slow"]
    answered.set()
    assert together.ask(questions, 30) == {"slow": "late", "quick": "at once"}
    assert begun == ["slow"]
    assert together.ask(questions, 30)["slow"] == "late"
    assert begun == ["slow", "slow"]


def test_an_answer_that_came_when_everybody_was_gone_is_not_told_much_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together: Together[str] = Together()
    answered = threading.Event()

    def slow() -> str:
        answered.wait(30)
        return "old"

    assert together.ask({"one": slow}, 0.01) == {}
    answered.set()
    # Taken by nobody: the question is waited for beside `ask`.
    until(lambda: together._asked["one"].future.done(), within_s=30, what="the late answer")
    monkeypatch.setattr("app.page.together.KEPT_S", -1.0)
    assert together.ask({"one": lambda: "new"}, 30) == {"one": "new"}


def test_what_a_question_raises_is_raised_where_it_is_asked() -> None:
    def wrong() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Together[None]().ask({"wrong": wrong}, 30)

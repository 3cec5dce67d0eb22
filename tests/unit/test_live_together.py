"""Questions that are asked at once, and one that does not answer."""

from __future__ import annotations

import threading

import pytest

from app.live.together import Together


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


def test_what_a_question_raises_is_raised_where_it_is_asked() -> None:
    def wrong() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Together[None]().ask({"wrong": wrong}, 30)

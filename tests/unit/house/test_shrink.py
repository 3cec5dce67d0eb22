"""A failing history is reduced as far as possible, and reported with its seed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.shrink import check_history, random_of


def test_what_the_failure_does_not_need_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_STEPS", raising=False)

    def play(steps: Sequence[int]) -> None:
        assert not {3, 17} <= set(steps), "3 and 17 do not go together"

    with pytest.raises(AssertionError) as caught:
        check_history(5, 40, play)
    told = str(caught.value)
    assert "a history of 2 steps fails, found in one of 40" in told
    assert "HEADWATER_SEED=5 HEADWATER_STEPS=3,17" in told and "do not go together" in told


def test_another_failure_is_not_taken_for_the_one_that_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HEADWATER_STEPS", raising=False)

    def play(steps: Sequence[int]) -> None:
        if not steps:
            raise KeyError("there is nothing to begin with")
        assert 7 not in steps

    with pytest.raises(AssertionError, match="HEADWATER_STEPS=7\n"):
        check_history(5, 10, play)


def test_the_search_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_STEPS", raising=False)
    seconds = iter(range(1000))

    def play(steps: Sequence[int]) -> None:
        assert not steps

    with pytest.raises(AssertionError, match="found in one of 64"):
        check_history(5, 64, play, shrink_s=2, clock=lambda: float(next(seconds)))


def test_the_steps_that_were_told_are_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[Sequence[int]] = []
    monkeypatch.setenv("HEADWATER_STEPS", "3,17")
    check_history(5, 40, played.append)
    assert played == [[3, 17]]
    assert random_of(5, 3).random() == random_of(5, 3).random() != random_of(5, 17).random()

"""Several questions at once, none of which can hold up the others or who asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

# What was answered after everybody went is for who asks next, if that is soon.
KEPT_S = 20.0


@dataclass
class _Asked(Generic[T]):
    future: Future[T] = field(default_factory=Future)
    ended: float = 0.0  # on the monotonic clock


class Together(Generic[T]):
    """Asks each question in a thread of its own.

    A question that is still under way when it is asked again is not begun a second time, so there are
    never more threads than questions, however often and by how many they are asked; and what takes
    longer than anyone waits is answered at a later time of asking.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked[T]] = {}

    def ask(self, questions: Mapping[str, Callable[[], T]], within_s: float) -> dict[str, T]:
        """The answers that came within `within_s` seconds, by name; what a question raises is raised
        here."""
        asked = {name: self._begun(name, question) for name, question in questions.items()}
        done, _ = wait([one.future for one in asked.values()], timeout=within_s)
        told = {name: one for name, one in asked.items() if one.future in done}
        with self._lock:
            for name, one in told.items():
                if self._asked.get(name) is one:
                    del self._asked[name]
        return {name: one.future.result() for name, one in told.items()}

    def _begun(self, name: str, question: Callable[[], T]) -> _Asked[T]:
        with self._lock:
            before = self._asked.get(name)
            if before and not (before.ended and time.monotonic() - before.ended > KEPT_S):
                return before
            one = self._asked[name] = _Asked()
        # Nobody waits for it at the end of the process: a name that no server tells, or a statement,
        # may take half a minute, and nothing can interrupt that.
        threading.Thread(target=_answer, args=(one, question), daemon=True).start()
        return one


def _answer(one: _Asked[T], question: Callable[[], T]) -> None:
    try:
        answer = question()
    except Exception as error:  # noqa: BLE001 - for whoever asked
        one.ended = time.monotonic()
        one.future.set_exception(error)
    else:
        one.ended = time.monotonic()
        one.future.set_result(answer)

"""Asks several questions at once; a slow one delays neither the others nor the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

# An answer without a waiting caller is kept for this long for the next one.
KEPT_S = 20.0


@dataclass
class _Asked(Generic[T]):
    future: Future[T] = field(default_factory=Future)
    ended: float = 0.0  # on the monotonic clock


class Together(Generic[T]):
    """Asks each question in a thread of its own.

    A question that is still running when it is asked again is not started a second time. There
    are thus never more threads than questions. An answer that takes longer than a caller waits is
    returned by a later call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked[T]] = {}

    def ask(self, questions: Mapping[str, Callable[[], T]], within_s: float) -> dict[str, T]:
        """Return the answers that came within `within_s` seconds, by name.

        Raises: the exception of a question.
        """
        asked = {name: self._started(name, question) for name, question in questions.items()}
        done, _ = wait([one.future for one in asked.values()], timeout=within_s)
        answered = {name: one for name, one in asked.items() if one.future in done}
        with self._lock:
            for name, one in answered.items():
                if self._asked.get(name) is one:
                    del self._asked[name]
        return {name: one.future.result() for name, one in answered.items()}

    def _started(self, name: str, question: Callable[[], T]) -> _Asked[T]:
        with self._lock:
            running = self._asked.get(name)
            if running and not (running.ended and time.monotonic() - running.ended > KEPT_S):
                return running
            one = self._asked[name] = _Asked()
        # A daemon: at the end of the process nobody waits for it. Looking up a name, or a statement,
        # may take half a minute, and nothing can interrupt it.
        threading.Thread(target=_answer, args=(one, question), daemon=True).start()
        return one


def _answer(one: _Asked[T], question: Callable[[], T]) -> None:
    try:
        answer = question()
    except Exception as error:  # noqa: BLE001 - raised for the caller
        one.ended = time.monotonic()
        one.future.set_exception(error)
    else:
        one.ended = time.monotonic()
        one.future.set_result(answer)

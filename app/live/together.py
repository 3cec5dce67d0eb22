"""Several questions at once, none of which can hold up the others or who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """Asks each question in a thread of its own.

    A question that is still under way when it is asked again is not begun a second time, so there are
    never more threads than questions, however often and by how many they are asked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[T]] = {}

    def ask(self, questions: Mapping[str, Callable[[], T]], within_s: float) -> dict[str, T]:
        """The answers that came within `within_s` seconds, by name; what a question raises is raised
        here."""
        asked = {name: self._begun(name, question) for name, question in questions.items()}
        done, _ = wait(asked.values(), timeout=within_s)
        return {name: future.result() for name, future in asked.items() if future in done}

    def _begun(self, name: str, question: Callable[[], T]) -> Future[T]:
        with self._lock:
            before = self._under_way.get(name)
            if before is not None and not before.done():
                return before
            future = self._under_way[name] = Future()
        # Nobody waits for it at the end of the process: the name of a container that is not there
        # may be looked up for half a minute, and nothing can interrupt that.
        threading.Thread(target=_answer, args=(future, question), daemon=True).start()
        return future


def _answer(future: Future[T], question: Callable[[], T]) -> None:
    try:
        future.set_result(question())
    except Exception as error:  # noqa: BLE001 - for whoever asked
        future.set_exception(error)

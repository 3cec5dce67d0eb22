"""Wait on a condition under a deadline, and say what was last observed when it runs out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(
    observe: Callable[[], Value],
    accept: Callable[[Value], bool] = bool,
    *,
    within_s: float,
    what: str,
    every_s: float = 0.1,
) -> Value:
    """The first value of `observe` that `accept` takes.

    An exception of `observe` counts as "not yet" and is told at the end.
    Raises: AssertionError after `within_s` seconds, with the last value or error.
    """
    limit = time.monotonic() + within_s
    last: object = None
    while time.monotonic() < limit:
        try:
            value = observe()
        except Exception as error:  # noqa: BLE001 - kept, and raised as the cause below
            last = error
        else:
            if accept(value):
                return value
            last = value
        time.sleep(every_s)
    cause = last if isinstance(last, Exception) else None
    raise AssertionError(f"{what}: not within {within_s:.0f} s; last seen: {last!r}") from cause

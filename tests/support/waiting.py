"""Waits for a condition with a deadline, and reports the last observation when it expires."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
# Checks take CPU from the awaited work, so they become rarer with time.
EVERY_S = (0.1, 0.5)
SHARE = 0.05


def until(
    observe: Callable[[], Value],
    accept: Callable[[Value], bool] = bool,
    *,
    within_s: float,
    what: str,
    every_s: float | None = None,
) -> Value:
    """Return the first value of `observe` that `accept` accepts.

    It checks each `every_s` seconds; by default first ten times a second, later twice.
    An exception of `observe` counts as "not yet" and is reported at the end.
    Raises: AssertionError after `within_s` seconds, with the last value or error.
    """
    began = time.monotonic()
    last: object = None
    while (waited := time.monotonic() - began) < within_s:
        try:
            value = observe()
        except Exception as error:  # noqa: BLE001 - kept, and raised as the cause below
            last = error
        else:
            if accept(value):
                return value
            last = value
        least, most = EVERY_S
        time.sleep(every_s if every_s is not None else min(most, least + SHARE * waited))
    cause = last if isinstance(last, Exception) else None
    raise AssertionError(f"{what}: not within {within_s:.0f} s; last seen: {last!r}") from cause

"""A clock that a test moves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Returns the seconds that the test has set."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

"""A clock that a test moves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Tells the seconds that a test says it is."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

"""The interface of a collector."""

from __future__ import annotations

from typing import Protocol


class Collector(Protocol):
    """Observes one part of the stack and writes its values on the board."""

    @property
    def name(self) -> str:
        """Its name in metrics and logs."""

    @property
    def period_s(self) -> float:
        """Seconds from one collection to the next."""

    @property
    def share(self) -> float:
        """The share of a core that it may use on average."""

    def collect(self) -> None:
        """Collect once. Any exception counts as a failure."""

    def reset(self) -> None:
        """Close connections after a failure; remove values from the board that would now be wrong."""

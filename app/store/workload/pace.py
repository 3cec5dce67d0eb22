"""Holds a rate of changes a second, by a monotonic clock."""

from __future__ import annotations

from collections.abc import Callable

# After a stall, at most the changes of this many seconds come at once.
CATCH_UP_S = 2.0


class Pace:
    """When the next transaction is due, so that `rate` changes a second are made on average.

    A late one is caught up with, but no more than `catch_up_s` seconds' worth: the rest of the
    debt is dropped and counted in `dropped_s`, so that a stall never ends in a flood.

    Args:
        rate: changes a second; 0 means as fast as it goes.
        clock: monotonic seconds.
    """

    def __init__(
        self, rate: float, clock: Callable[[], float], *, catch_up_s: float = CATCH_UP_S
    ) -> None:
        if rate < 0:
            raise ValueError(f"the rate must not be negative, got {rate}")
        self._rate = rate
        self._clock = clock
        self._catch_up_s = catch_up_s
        self._due = clock()
        self.dropped_s = 0.0

    def wait_s(self) -> float:
        """Seconds until the next transaction is due; 0 if it is due or late."""
        if self._rate == 0:
            return 0.0
        late_s = self._clock() - self._due
        if late_s > self._catch_up_s:
            self.dropped_s += late_s - self._catch_up_s
            self._due += late_s - self._catch_up_s
        return max(0.0, -late_s)

    def spend(self, changes: int) -> None:
        """Note that a transaction made `changes` row changes."""
        if self._rate > 0:
            self._due += changes / self._rate

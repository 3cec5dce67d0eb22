"""Decides for how long silver waits after a batch, so that a busy machine merges less often, and more at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

# A batch below this has little to merge, and most of it would be there after a pause, too.
SHORT_S = 0.4
PAUSE_S_MAX = 3.0
# From this share of unused CPU on, a pause would only add lag.
IDLE_SHARE_MIN = 0.1
# A batch of this share of the limit leaves a backlog behind: it is worked off first.
FULL_SHARE = 0.5
# Batches are long for a while after a start, too; then a pause would make the catching up longer.
LONG_BATCHES = 5


@dataclass(frozen=True)
class CpuTimes:
    """The machine's CPU seconds since its boot, of all cores."""

    idle_s: float
    total_s: float

    @classmethod
    def now(cls) -> CpuTimes:
        times = psutil.cpu_times()
        # Linux counts a guest's time in `user`, too.
        return cls(
            times.idle, sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
        )


@dataclass
class Pace:
    """The pauses of one query.

    A merge of changes to random rows writes nearly all files of its table again, however few the changes are. A batch
    that begins at once, with what came meanwhile, takes the CPU from the connector, and changes wait there. Waiting for as
    long as the batch took halves the merges.

    Args:
        cpu_times: the machine's CPU times.
    """

    cpu_times: Callable[[], CpuTimes] = CpuTimes.now
    _begun: CpuTimes | None = field(default=None, init=False)
    _long: int = field(default=0, init=False)

    def begin(self) -> None:
        """Note the begin of a batch."""
        self._begun = self.cpu_times()

    def pause_s(self, took_s: float, offsets: int, offsets_max: int) -> float:
        """How long to wait after a batch, in seconds.

        Args:
            took_s: how long the batch took since `begin`.
            offsets: its size; offsets_max: the greatest that a batch of the query can have.
        """
        is_long = took_s > SHORT_S and offsets < offsets_max * FULL_SHARE and self._is_busy()
        self._long = self._long + 1 if is_long else 0
        return min(took_s, PAUSE_S_MAX) if self._long >= LONG_BATCHES else 0.0

    def _is_busy(self) -> bool:
        if self._begun is None:
            return False
        now, before = self.cpu_times(), self._begun
        return now.idle_s - before.idle_s < IDLE_SHARE_MIN * (now.total_s - before.total_s)

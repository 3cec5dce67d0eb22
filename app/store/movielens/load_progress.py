"""Shows the progress of a long load on stderr: rows, share, rate, time left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from app.printing import duration

# On a terminal one line is overwritten; a log file gets a line now and then.
TERMINAL_PAUSE_S = 0.2
LOG_PAUSE_S = 5.0


class Progress:
    """One file's progress; the share and the time left are by bytes, the rate by rows.

    Args:
        what: the file's name.
        bytes_total: its size.
        stream: where the lines go (stderr).
        clock: monotonic seconds.
    """

    def __init__(
        self, what: str, bytes_total: int, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._what = what
        self._total = max(bytes_total, 1)
        self._stream = stream
        self._clock = clock
        self._on_terminal = stream.isatty()
        self._started = clock()
        self._shown_at = self._started
        self.bytes = 0
        self.rows = 0

    def passed(self, count: int) -> None:
        """Note that `count` bytes were read."""
        self.bytes += count

    def loaded(self, rows: int) -> None:
        """Note that `rows` rows are committed, and show it unless it was shown just now."""
        self.rows += rows
        pause_s = TERMINAL_PAUSE_S if self._on_terminal else LOG_PAUSE_S
        if self._clock() - self._shown_at >= pause_s:
            self._show("\r" if self._on_terminal else "", "" if self._on_terminal else "\n")

    def finish(self) -> None:
        """Show the end."""
        self._show("\r" if self._on_terminal else "", "\n")

    def text(self) -> str:
        elapsed_s = max(self._clock() - self._started, 1e-9)
        share = min(self.bytes / self._total, 1.0)
        left_s = elapsed_s * (1 - share) / share if share > 0 else 0.0
        return (
            f"{self._what}: {self.rows:,} rows, {share:.0%}, "
            f"{self.rows / elapsed_s:,.0f} rows/s, {duration(left_s)} left"
        )

    def _show(self, before: str, after: str) -> None:
        self._shown_at = self._clock()
        padded = f"{self.text():<78}" if self._on_terminal else self.text()
        self._stream.write(f"{before}{padded}{after}")
        self._stream.flush()

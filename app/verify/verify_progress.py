"""Shows on stderr how far a verification or a rebuild is, and about how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from app.printing import duration

REPORT_ROWS = 5_000
Item = TypeVar("Item")


class Progress:
    """Counts items read against an estimate, and shows a line every REPORT_ROWS items.

    Args:
        show: shows a line in place of the last one (`printing.Steps.waiting`).
        clock: monotonic seconds.
        what: the items, as the line names them.
        verb: the first word of the line.
    """

    def __init__(
        self,
        show: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        what: str = "rows of both sides",
        verb: str = "verify",
    ) -> None:
        self._show = show
        self._what = what
        self._verb = verb
        self._clock = clock
        self._started = clock()
        self._expected: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._table = ""

    def expect(self, table: str, rows: int) -> None:
        """Set the estimate: about `rows` rows of `table` are still to be read, of both sides."""
        self._expected[table] = self._done.get(table, 0) + rows

    def finished(self, table: str) -> None:
        """Set the estimate to the rows read, because `table` is finished."""
        self._expected[table] = self._done.get(table, 0)

    def counted(self, table: str, rows: Iterable[Item]) -> Iterator[Item]:
        """Yield `rows` and count them."""
        self._table = table
        count = 0
        for count, row in enumerate(rows, start=1):
            yield row
            if count % REPORT_ROWS == 0:
                self._add(table, REPORT_ROWS)
        self._add(table, count % REPORT_ROWS)

    def _add(self, table: str, rows: int) -> None:
        self._done[table] = self._done.get(table, 0) + rows
        self._show(self.text())

    def text(self) -> str:
        """Return the progress in one line."""
        done = sum(self._done.values())
        expected = sum(max(n, self._done.get(t, 0)) for t, n in self._expected.items())
        elapsed = max(self._clock() - self._started, 1e-6)
        rate = done / elapsed
        text = f"{self._verb} {self._table}: {done:,} {self._what} read, {rate:,.0f}/s"
        if expected > done and rate > 0:
            share = f"{100 * done / expected:.0f} %"
            text += f", {share}, about {duration((expected - done) / rate)} left"
        return text

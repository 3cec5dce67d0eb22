"""How far a verification or a rebuild is, and how long it will still take, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

LOOK_ROWS = 5_000
Item = TypeVar("Item")


class Progress:
    """Counts `what` is read against an estimate; tells now and then.

    Args:
        say: gets a line that replaces the last one (`printing.Steps.waiting`).
        clock: seconds, monotonic.
        verb: begins the line.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        what: str = "rows of both sides",
        verb: str = "verify",
    ) -> None:
        self._say = say
        self._what = what
        self._verb = verb
        self._clock = clock
        self._started = clock()
        self._expected: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._table = ""

    def expect(self, table: str, rows: int) -> None:
        """Say that about `rows` rows of `table` are still to be read, of both sides together."""
        self._expected[table] = self._done.get(table, 0) + rows

    def finished(self, table: str) -> None:
        """Nothing more of `table` is to be read: the estimate becomes what was read."""
        self._expected[table] = self._done.get(table, 0)

    def counted(self, table: str, rows: Iterable[Item]) -> Iterator[Item]:
        """Pass `rows` on, counting them."""
        self._table = table
        count = 0
        for count, row in enumerate(rows, start=1):
            yield row
            if count % LOOK_ROWS == 0:
                self._add(table, LOOK_ROWS)
        self._add(table, count % LOOK_ROWS)

    def _add(self, table: str, rows: int) -> None:
        self._done[table] = self._done.get(table, 0) + rows
        self._say(self.text())

    def text(self) -> str:
        """The state in one line."""
        done = sum(self._done.values())
        expected = sum(max(n, self._done.get(t, 0)) for t, n in self._expected.items())
        elapsed = max(self._clock() - self._started, 1e-6)
        rate = done / elapsed
        text = f"{self._verb} {self._table}: {done:,} {self._what} read, {rate:,.0f}/s"
        if expected > done and rate > 0:
            share = f"{100 * done / expected:.0f} %"
            text += f", {share}, about {duration((expected - done) / rate)} left"
        return text


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would take."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"

"""Waits for silver; shows the time and reason of the wait, and why silver makes no progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.errors import HeadwaterError

PATIENCE_S = 300.0
# A service that is only being restarted is in another state by then.
DOWN_S = 10.0
# Two heartbeats are mostly merged within half a second, so the first polls are close together.
POLLS_S = (0.2, 0.2, 0.3, 0.5, 1.0)
# A wait of a few seconds is not worth a line that stays.
POLLS_BEFORE_A_NOTE = 6
TABLES_SHOWN = 5
DOWN = ("stopped", "failed", "orphaned")
WELL = ("ready", "")


class SilverState(NamedTuple):
    """The supervisor's view of the service `silver`.

    `state` is that of `status` ("" if not known); `cause` says why it is not ready.
    """

    state: str = ""
    cause: str = ""

    def __str__(self) -> str:
        return f"silver is {self.state}" + (f": {self.cause}" if self.cause else "")


@dataclass(frozen=True)
class Waits:
    """How to wait.

    Args:
        note: prints a line that stays.
        show: shows the current reason of the wait; replaces the previous line.
        silver: returns the state of the service.
        patience_s: how long to wait without progress.
    """

    note: Callable[[str], None] = lambda _: None
    show: Callable[[str], None] = lambda _: None
    silver: Callable[[], SilverState] = SilverState
    patience_s: float = PATIENCE_S


class Patience:
    """Waits for silver as long as it makes progress.

    Args:
        clock: monotonic seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        waits: Waits,
        patience_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._waits = waits
        self._patience_s = waits.patience_s if patience_s is None else patience_s
        self._clock, self._sleep = clock, sleep
        self._least: int | None = None
        self._polls = 0
        self._progress_at = clock()

    def wait(self, behind: int, what: str) -> None:
        """Wait a moment, while silver is `behind` by a number of any unit.

        Args:
            what: what silver has not applied yet, for messages.
        Raises: HeadwaterError if silver has made no progress for too long, or is down.
        """
        now = self._clock()
        if self._least is None or behind < self._least:
            self._least, self._progress_at = behind, now
        still_s = now - self._progress_at
        state = self._waits.silver() if self._polls >= POLLS_BEFORE_A_NOTE else SilverState()
        text = f"verify waits for silver to apply {what}"
        if state.state not in WELL:
            text += f"; {state}"
        if self._polls == POLLS_BEFORE_A_NOTE:
            self._waits.note(text)
        self._waits.show(f"{text}; no step nearer for {still_s:.0f} s" if still_s > 3 else text)
        is_down = state.state in DOWN and still_s > DOWN_S
        if is_down or still_s > self._patience_s:
            raise _no_progress(still_s, what, state)
        self._sleep(POLLS_S[min(self._polls, len(POLLS_S) - 1)])
        self._polls += 1


def _no_progress(still_s: float, what: str, state: SilverState) -> HeadwaterError:
    well = state.state in WELL
    cause = "silver runs, and merges nothing of it" if well else str(state)
    return HeadwaterError(
        f"silver has not come nearer for {still_s:.0f} s",
        detail=f"it has not applied {what}\n{cause}",
        hint="`./headwater status silver` and `./headwater logs silver` say more"
        + ("; start it: `./headwater up`" if state.state in DOWN else "")
        + "; verify again when it has caught up",
    )


def behind_text(events: Mapping[str, int]) -> str:
    """Format tables with the Kafka offsets that silver has not applied, the most first."""
    late = sorted(((n, t) for t, n in events.items() if n > 0), key=lambda one: (-one[0], one[1]))
    texts = [f"{table} ({count:,} offsets)" for count, table in late[:TABLES_SHOWN]]
    if len(late) > TABLES_SHOWN:
        texts.append(f"{len(late) - TABLES_SHOWN} tables more")
    return ", ".join(texts)

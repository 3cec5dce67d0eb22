"""Random histories as lists of numbered steps; a failing history is reduced to a smaller one that also fails.

A step depends only on the seed and its number, so the other steps stay the same if one is
left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from random import Random

Play = Callable[[Sequence[int]], None]
# The time limit of a reduction; on Spark one try takes half a minute.
SHRINK_S = 300.0


def random_of(seed: int, step: int) -> Random:
    """The random generator of one step of a history."""
    return Random(f"{seed}/{step}")


def check_history(
    seed: int,
    count: int,
    play: Play,
    *,
    shrink_s: float = SHRINK_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Play a history of `count` steps, or of those that `HEADWATER_STEPS` names.

    Args:
        play: gets the numbers of the steps; raises if the history fails.
    Raises: AssertionError with seed and steps of the smallest history found that fails in the
        same way, caused by its error.
    """
    wanted = os.environ.get("HEADWATER_STEPS")
    steps = [int(number) for number in wanted.split(",")] if wanted else list(range(count))
    try:
        play(steps)
        return
    except Exception as error:  # noqa: BLE001 - raised as the cause below
        failed = error
    limit = clock() + shrink_s
    smallest, failed = shrunk(steps, play, failed, lambda: clock() < limit)
    listed = ",".join(map(str, smallest))
    raise AssertionError(
        f"a history of {len(smallest)} steps fails, found in one of {len(steps)}; run it again with "
        f"HEADWATER_SEED={seed} HEADWATER_STEPS={listed}\n{failed}"
    ) from failed


def shrunk(
    steps: Sequence[int], play: Play, failed: Exception, may_go_on: Callable[[], bool]
) -> tuple[list[int], Exception]:
    """A history that fails like `steps` and from which no step can be left out, and its error.

    It may be longer if `may_go_on` ends the search. Halves are left out first, single steps last.
    """
    left = list(steps)
    size = max(1, len(left) // 2)
    while True:
        at, smaller = 0, False
        while at < len(left) and may_go_on():
            fewer = left[:at] + left[at + size :]
            error = _error_of(play, fewer)
            if error is not None and type(error) is type(failed):
                left, failed, smaller = fewer, error, True
            else:
                at += size
        if not may_go_on() or (size == 1 and not smaller):
            return left, failed
        size = max(1, size // 2)


def _error_of(play: Play, steps: Sequence[int]) -> Exception | None:
    try:
        play(steps)
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        return error
    return None

"""When silver waits after a batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from spark_streaming.batch.pacing import LONG_BATCHES, PAUSE_S_MAX, SHORT_S, CpuTimes, Pace

LIMIT = 300_000


def cpu(idle_share: float) -> Iterator[CpuTimes]:
    """A machine of two cores that is asked every second."""
    return (CpuTimes(n * 2 * idle_share, n * 2.0) for n in itertools.count())


def pauses(took_s: list[float], idle_share: float = 0.0, offsets: int = 20_000) -> list[float]:
    times = cpu(idle_share)
    pace = Pace(lambda: next(times))
    found = []
    for seconds in took_s:
        pace.begin()
        found.append(pace.pause_s(seconds, offsets, LIMIT))
    return found


def test_long_batches_of_a_busy_machine_are_followed_by_a_pause_once_there_are_several() -> None:
    assert pauses([2.0] * 7) == [0.0] * (LONG_BATCHES - 1) + [2.0] * 3


def test_a_pause_has_a_limit() -> None:
    assert pauses([60.0] * LONG_BATCHES)[-1] == PAUSE_S_MAX


def test_a_short_batch_ends_the_pauses() -> None:
    assert pauses([2.0] * LONG_BATCHES + [SHORT_S, 2.0])[-2:] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("idle_share", "offsets"),
    [
        pytest.param(0.2, 20_000, id="CPU is left"),
        pytest.param(0.0, LIMIT // 2, id="a backlog waits"),
    ],
)
def test_a_pause_that_would_only_add_lag_is_not_made(idle_share: float, offsets: int) -> None:
    assert pauses([2.0] * 9, idle_share, offsets) == [0.0] * 9


def test_the_machine_tells_its_cpu_times() -> None:
    before = CpuTimes.now()
    sum(range(3_000_000))
    after = CpuTimes.now()
    assert after.total_s > before.total_s
    assert 0 <= after.idle_s - before.idle_s <= after.total_s - before.total_s

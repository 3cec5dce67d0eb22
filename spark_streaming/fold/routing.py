"""Decides by size where each table's part of a batch is folded, before any of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spark_streaming.job_settings import SilverSettings

# A smaller batch is mostly fixed cost, however large its rows are.
_OFFSETS_MIN = 1_000


@dataclass(frozen=True)
class Route:
    """The topics of one batch; each is in exactly one of the lists.

    Args:
        rounds: topics whose whole parts the driver reads together, round after round; the smallest
            first, so that quiet tables do not wait for busy ones.
        sliced: topics whose parts the driver reads in slices, one after the other.
        large: topics whose parts the executors fold and Spark merges.
    """

    rounds: list[list[str]]
    sliced: list[str]
    large: list[str]


def route(sizes: Mapping[str, int], *, driver_max: int, large_min: int | None) -> Route:
    """Assign each topic to the driver's rounds, to slices, or to the executors.

    Args:
        sizes: offsets of each topic in the batch.
        driver_max: offsets that the driver holds at once.
        large_min: offsets of a topic from which on the executors fold it; None: they never do.
    """
    result = Route([], [], [])
    room = 0
    for topic, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        if large_min is not None and size >= large_min:
            result.large.append(topic)
        elif size > driver_max:
            result.sliced.append(topic)
        else:
            if size > room:
                result.rounds.append([])
                room = driver_max
            result.rounds[-1].append(topic)
            room -= size
    return result


def offsets_for(settings: SilverSettings, bytes_an_offset: float) -> int:
    """Return how many offsets a batch of events of this size may have within its limits."""
    within = int((settings.batch_mb_max << 20) / max(bytes_an_offset, 1.0))
    return min(settings.batch_offsets_max, max(within, _OFFSETS_MIN))

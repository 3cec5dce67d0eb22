"""Which way each table's part of a batch takes: by its size, before any of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spark_streaming.settings import SilverSettings

# A batch smaller than this is all fixed cost, however large its rows are.
_OFFSETS_MIN = 1_000


@dataclass(frozen=True)
class Route:
    """The topics of one batch; each stands in one place.

    Args:
        rounds: topics whose whole parts the driver takes together, one round after the other;
            the smallest first, so that quiet tables do not wait for busy ones.
        sliced: topics whose parts the driver takes in slices, one after the other.
        large: topics whose parts the executors fold and Spark merges.
    """

    rounds: list[list[str]]
    sliced: list[str]
    large: list[str]


def route(sizes: Mapping[str, int], *, driver_max: int, large_min: int | None) -> Route:
    """Send each topic its way.

    Args:
        sizes: offsets of each topic in the batch.
        driver_max: offsets that the driver takes at once.
        large_min: offsets of a topic from which the executors take it; None: they never do.
    """
    found = Route([], [], [])
    room = 0
    for topic, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        if large_min is not None and size >= large_min:
            found.large.append(topic)
        elif size > driver_max:
            found.sliced.append(topic)
        else:
            if size > room:
                found.rounds.append([])
                room = driver_max
            found.rounds[-1].append(topic)
            room -= size
    return found


def large_min(settings: SilverSettings) -> int | None:
    """From how many offsets of a topic on the executors take it; None: never."""
    if settings.merge_engine == "delta-rs":
        return None
    if settings.merge_engine == "spark":
        # Beyond what the driver takes at once there is no other way to Spark's MERGE.
        return min(settings.spark_merge_rows_min, settings.small_batch_offsets_max + 1)
    return settings.spark_merge_rows_min


def offsets_for(settings: SilverSettings, bytes_an_offset: float) -> int:
    """Offsets of a batch, of events of this size, that stay within the batch's limits."""
    within = int((settings.batch_mb_max << 20) / max(bytes_an_offset, 1.0))
    return min(settings.batch_offsets_max, max(within, _OFFSETS_MIN))

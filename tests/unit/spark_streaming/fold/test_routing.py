"""The route of a table's part of a batch, and the division of a part into slices."""

from __future__ import annotations

from random import Random

from spark_streaming.fold.routing import offsets_for, route
from spark_streaming.job_settings import SilverSettings
from spark_streaming.reading.offsets import WHOLE, BatchSpan, reached_in, version_of
from spark_streaming.storage.store_address import ObjectStore


def test_small_tables_share_rounds_and_the_smallest_come_first() -> None:
    found = route({"a": 5, "b": 1, "c": 4, "d": 9}, driver_max=10, large_min=None)
    assert found.rounds == [["b", "c", "a"], ["d"]]
    assert (found.sliced, found.large) == ([], [])


def test_table_beyond_the_drivers_room_is_sliced_or_goes_to_the_executors() -> None:
    sizes = {"middle": 20, "big": 30}
    found = route(sizes, driver_max=10, large_min=30)
    assert (found.rounds, found.sliced, found.large) == ([], ["middle"], ["big"])
    assert route(sizes, driver_max=10, large_min=None).sliced == ["middle", "big"]


def test_no_round_is_larger_than_the_drivers_room(seed: int) -> None:
    random = Random(seed)
    sizes = {str(number): random.randint(1, 15) for number in range(40)}
    found = route(sizes, driver_max=10, large_min=14)
    assert all(sum(sizes[name] for name in names) <= 10 for names in found.rounds)
    taken = [name for names in found.rounds for name in names] + found.sliced + found.large
    assert sorted(taken) == sorted(sizes)


def test_slices_cover_every_offset_once_whatever_their_sizes(seed: int) -> None:
    random = Random(seed)
    start = {p: random.randint(0, 50) for p in range(3)}
    span = BatchSpan({"t": start}, {"t": {p: o + random.randint(0, 40) for p, o in start.items()}})
    seen: list[tuple[int, int]] = []
    at = 0
    while at < span.size:
        end = min(at + random.randint(1, 20), span.size)
        piece = span.between(at, end)
        for partition, first in piece.start["t"].items():
            seen += [(partition, offset) for offset in range(first, piece.end["t"][partition])]
        at = end
    wanted = [(p, o) for p in start for o in range(start[p], span.end["t"][p])]
    assert sorted(seen) == wanted


def test_partition_without_a_start_is_sliced_from_its_first_offset() -> None:
    piece = BatchSpan({}, {"t": {0: 10}}).between(5, 10)
    assert (piece.start, piece.end) == ({"t": {0: 5}}, {"t": {0: 10}})


def test_versions_grow_within_a_batch_and_from_batch_to_batch() -> None:
    assert version_of(6) < version_of(7, 1) < version_of(7, 2) < version_of(7) < version_of(8, 1)
    assert [reached_in(version_of(7, 5), batch) for batch in (6, 7, 8)] == [WHOLE, 5, 0]
    assert reached_in(version_of(7), 7) == WHOLE
    assert reached_in(-1, 0) == 0


def test_batches_of_large_events_hold_fewer_of_them() -> None:
    settings = SilverSettings.model_construct(
        store=ObjectStore(), batch_offsets_max=500_000, batch_mb_max=1024
    )
    assert offsets_for(settings, 800) == 500_000
    assert offsets_for(settings, 1 << 16) == 16_384
    assert offsets_for(settings, 1 << 30) == 1_000

"""The best movies of each customer, or the best customers of each movie, without known pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.models.interactions import Floats, Ids, Pairs, Places

LENGTH = 10
_CELLS_A_CHUNK = 4_000_000  # scores in memory at once: 32 MB


@dataclass(frozen=True)
class Lists:
    """Lists of `LENGTH` places, best first: (lists, places), and the scores; -inf after the end of a list."""

    best: Ids
    scores: Floats


def best_of_each(
    owners: Places,
    count: int,
    scores_of: Callable[[Places], Floats],
    known: tuple[Places, Places],
    length: int = LENGTH,
) -> Lists:
    """Make the lists of some owners.

    Args:
        owners: places of customers (or movies), ascending.
        count: how many movies (or customers) there are.
        scores_of: the scores of some owners, as (owners, count); -inf leaves one out.
        known: pairs of owner and other, which are left out.
    """
    order = np.lexsort((known[1], known[0]))
    known_owners, known_others = known[0][order], known[1][order]
    length = min(length, count)
    best: list[Ids] = [np.empty((0, length), np.int64)]
    scores: list[Floats] = [np.empty((0, length))]
    for chunk in _chunks(owners, max(1, _CELLS_A_CHUNK // max(count, 1))):
        found = scores_of(chunk)
        first, last = np.searchsorted(known_owners, [chunk[0], chunk[-1] + 1])
        mine = np.searchsorted(chunk, known_owners[first:last])
        # Owners between two of the chunk have no row in it.
        has_row = chunk[np.minimum(mine, len(chunk) - 1)] == known_owners[first:last]
        found[mine[has_row], known_others[first:last][has_row]] = -np.inf
        top = np.argpartition(-found, length - 1, axis=1)[:, :length]
        top.sort(axis=1)  # equal scores: the lower place first
        given = np.take_along_axis(found, top, axis=1)
        rank = np.argsort(-given, axis=1, kind="stable")
        best.append(np.take_along_axis(top, rank, axis=1))
        scores.append(np.take_along_axis(given, rank, axis=1))
    return Lists(np.concatenate(best), np.concatenate(scores))


def popularity(liked: Pairs) -> Floats:
    """Return how many customers like each movie; at equal numbers the lower id comes first."""
    counts = np.bincount(liked.movies, minlength=len(liked.movie_ids)).astype(np.float64)
    return counts - np.arange(len(counts)) / (len(counts) + 1)


def _chunks(places: Places, size: int) -> Iterator[Places]:
    for start in range(0, len(places), size):
        yield places[start : start + size]

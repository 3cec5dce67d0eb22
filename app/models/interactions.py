"""Ratings and purchases as arrays: cleaned, one row for each pair, ids of any size as indexes into a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import HeadwaterError

Ids = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

RATING_COLUMNS = ["customer_id", "movie_id", "stars", "rated_at"]
LIKED = 4.0  # stars from which a movie counts as liked
HELD_OUT = 0.25
_NO_ID, _NO_STARS, _OLDER = "without customer or movie", "without stars", "replaced by a newer one"


@dataclass(frozen=True)
class Ratings:
    """One rating for each pair, sorted by customer, then movie.

    Args:
        dropped: rows that were left out, by reason.
    """

    customers: Ids
    movies: Ids
    stars: Floats
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.stars)


@dataclass(frozen=True)
class Pairs:
    """Pairs of customer and movie, each with a value: a rating's stars, or whether the movie is liked.

    MLlib's ALS takes ids of 32 bits. So customers and movies are indexes into `customer_ids` and `movie_ids`.
    """

    customer_ids: Ids
    movie_ids: Ids
    customers: Places
    movies: Places
    values: Floats

    def __len__(self) -> int:
        return len(self.values)

    def only(self, mask: Mask) -> Pairs:
        """Return the pairs of the mask; indexes keep their meaning."""
        return Pairs(
            self.customer_ids,
            self.movie_ids,
            self.customers[mask],
            self.movies[mask],
            self.values[mask],
        )

    def having(self, values: Floats) -> Pairs:
        """Return the same pairs with other values."""
        return Pairs(self.customer_ids, self.movie_ids, self.customers, self.movies, values)


def clean_ratings(tables: Sequence[pa.Table]) -> Ratings:
    """Take the newest rating of each pair; at equal times that of the first table.

    Args:
        tables: columns `customer_id`, `movie_id`, `stars` (any number), `rated_at`.
    Raises: HeadwaterError if nothing usable is left.
    """
    dropped = {_NO_ID: 0, _NO_STARS: 0, _OLDER: 0}
    parts = [_usable(table, number, dropped) for number, table in enumerate(tables)]
    customers, movies, stars, times, sources = (
        np.concatenate([part[column] for part in parts]) for column in range(5)
    )
    order = np.lexsort((-sources, times, movies, customers))
    customers, movies, stars = customers[order], movies[order], stars[order]
    newest = np.ones(len(order), dtype=np.bool_)
    newest[:-1] = (customers[1:] != customers[:-1]) | (movies[1:] != movies[:-1])
    dropped[_OLDER] = int((~newest).sum())
    if not newest.any():
        seen = sum(len(table) for table in tables)
        raise HeadwaterError(
            "there is no rating to learn from",
            detail=f"observed {seen:,} rows, of which 0 are usable",
            hint="`./headwater store grow` adds ratings; `./headwater status` says whether silver gets them",
        )
    return Ratings(customers[newest], movies[newest], stars[newest], dropped)


def rated(ratings: Ratings) -> Pairs:
    """Return the ratings as pairs whose values are stars."""
    customer_ids, customers = np.unique(ratings.customers, return_inverse=True)
    movie_ids, movies = np.unique(ratings.movies, return_inverse=True)
    return Pairs(
        customer_ids,
        movie_ids,
        customers.astype(np.int32),
        movies.astype(np.int32),
        ratings.stars,
    )


def seen(ratings: Ratings, bought: tuple[Ids, Ids]) -> Pairs:
    """Return each pair that was rated or bought; its value is 1 if it was liked or bought, else 0.

    Args:
        bought: customers and movies, as often as they were bought.
    """
    customers = np.concatenate([ratings.customers, bought[0]])
    movies = np.concatenate([ratings.movies, bought[1]])
    liked = np.concatenate([ratings.stars >= LIKED, np.ones(len(bought[0]), dtype=np.bool_)])
    customer_ids, customer_places = np.unique(customers, return_inverse=True)
    movie_ids, movie_places = np.unique(movies, return_inverse=True)
    both, first = np.unique(
        customer_places.astype(np.int64) * len(movie_ids) + movie_places, return_inverse=True
    )
    return Pairs(
        customer_ids,
        movie_ids,
        (both // len(movie_ids)).astype(np.int32),
        (both % len(movie_ids)).astype(np.int32),
        (np.bincount(first, weights=liked) > 0).astype(np.float64),
    )


def parts_of_each(owners: Places, seed: int, parts: int) -> Places:
    """Divide each owner's rows among the parts at random, as evenly as possible; returns each row's part."""
    number, _ = _dealt(owners, seed)
    shift = np.random.default_rng(seed + 1).integers(0, parts, int(owners.max()) + 1)
    return ((number + shift[owners]) % parts).astype(np.int32)


def held_out(owners: Places, seed: int, share: float = HELD_OUT) -> Mask:
    """Choose a share of each owner's rows at random; none if the owner has only one row."""
    number, count = _dealt(owners, seed)
    return number < np.rint(count * share)


def _dealt(owners: Places, seed: int) -> tuple[Ids, Ids]:
    """Return each row's number among its owner's rows in random order, and the number of these rows."""
    draw = np.random.default_rng(seed).random(len(owners))
    order = np.lexsort((draw, owners))
    counts = np.bincount(owners)
    starts = np.cumsum(counts) - counts
    number = np.empty(len(owners), dtype=np.int64)
    number[order] = np.arange(len(owners)) - starts[owners[order]]
    return number, counts[owners]


def _usable(
    table: pa.Table, source: int, dropped: dict[str, int]
) -> tuple[Ids, Ids, Floats, Ids, Ids]:
    table = table.select(RATING_COLUMNS)
    stars = table["stars"].cast(pa.float64())
    has_ids = pc.and_(pc.is_valid(table["customer_id"]), pc.is_valid(table["movie_id"]))
    has_stars = pc.fill_null(pc.is_finite(stars), False)
    dropped[_NO_ID] += pc.sum(pc.invert(has_ids)).as_py() or 0
    dropped[_NO_STARS] += pc.sum(pc.and_(has_ids, pc.invert(has_stars))).as_py() or 0
    keep = pc.and_(has_ids, has_stars)
    table = table.set_column(2, "stars", stars).filter(keep)
    times = table["rated_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return (
        _ids(table["customer_id"]),
        _ids(table["movie_id"]),
        table["stars"].to_numpy().astype(np.float64),
        pc.fill_null(times, 0).to_numpy(),
        np.full(len(table), source, dtype=np.int64),
    )


def _ids(column: pa.ChunkedArray) -> Ids:
    return column.cast(pa.int64()).to_numpy()

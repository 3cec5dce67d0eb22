"""The transactions of the catalogue: movies, their prices, texts and genres.

Each function does one business transaction for a Clerk and returns how many rows it changed;
0 if the store has no suitable row.
"""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import delete, func, insert, select, update

from app.store.tables import make, vocabulary
from app.store.tables.schema import genres, movie_genres, movies
from app.store.workload.clerk import Clerk

# One transaction changes at most this many movies.
ROWS_AT_ONCE_MAX = 25
_CHEAPEST = Decimal("0.49")
_DEAREST = Decimal("99.99")


def new_movie(clerk: Clerk) -> int:
    """A movie with its genres enters the catalogue."""
    movie_id = clerk.next_id(movies.c.movie_id)
    changes = clerk.add(movies, [make.movie(clerk.rng, movie_id, clerk.now)])
    known = clerk.connection.execute(select(genres.c.genre_id)).scalars().all()
    wanted = [g for g in make.genre_ids(clerk.rng) if g in known]
    return changes + clerk.add(
        movie_genres, [{"movie_id": movie_id, "genre_id": genre} for genre in wanted]
    )


def change_price(clerk: Clerk) -> int:
    """One price changes; the movie's long description stays, out of line, unchanged."""
    movie = clerk.pick(movies.c.movie_id, movies.c.price)
    if movie is None:
        return 0
    return clerk.change(
        update(movies)
        .where(movies.c.movie_id == movie.movie_id)
        .values(price=_new_price(clerk, movie.price), updated_at=clerk.now)
    )


def hold_sale(clerk: Clerk) -> int:
    """Prices of a run of movies change in one statement."""
    factor = clerk.rng.choice((Decimal("0.90"), Decimal("0.95"), Decimal("1.05"), Decimal("1.10")))
    chosen = _run_of_movies(clerk)
    within = func.least(func.greatest(movies.c.price * factor, _CHEAPEST), _DEAREST)
    return clerk.change(
        update(movies)
        .where(movies.c.movie_id.in_(chosen))
        .values(price=func.round(within, 2), updated_at=clerk.now)
    )


def stock_check(clerk: Clerk) -> int:
    """Some movies of a run come on sale, the others go off."""
    chosen = _run_of_movies(clerk)
    return clerk.change(
        update(movies)
        .where(movies.c.movie_id.in_(chosen))
        .values(available=~movies.c.available, updated_at=clerk.now)
    )


def rewrite_description(clerk: Clerk) -> int:
    """A movie's text is rewritten: longer, shorter, or removed."""
    movie = clerk.pick(movies.c.movie_id)
    if movie is None:
        return 0
    return clerk.change(
        update(movies)
        .where(movies.c.movie_id == movie.movie_id)
        .values(description=vocabulary.description(clerk.rng), updated_at=clerk.now)
    )


def recategorise(clerk: Clerk) -> int:
    """One of a movie's genres becomes another one (its key changes) or is taken away or added."""
    known = set(clerk.connection.execute(select(genres.c.genre_id)).scalars())
    movie = clerk.pick(movies.c.movie_id)
    if movie is None:
        return 0
    mine = movie_genres.c.movie_id == movie.movie_id
    has = clerk.connection.execute(
        select(movie_genres.c.genre_id).where(mine).order_by(movie_genres.c.genre_id)
    ).scalars()
    old = list(has)
    free = sorted(known - set(old))
    kind = clerk.rng.random()
    if old and free and kind < 0.6:
        return clerk.change(
            update(movie_genres)
            .where(mine, movie_genres.c.genre_id == clerk.rng.choice(old))
            .values(genre_id=clerk.rng.choice(free))
        )
    if len(old) > 1:
        return clerk.change(
            delete(movie_genres).where(mine, movie_genres.c.genre_id == clerk.rng.choice(old))
        )
    if not free:
        return 0
    row = {"movie_id": movie.movie_id, "genre_id": clerk.rng.choice(free)}
    return clerk.change(insert(movie_genres).values(row))


def _run_of_movies(clerk: Clerk) -> list[int]:
    """Up to `ROWS_AT_ONCE_MAX` neighbouring movies, locked in the order of their keys."""
    first = clerk.pick(movies.c.movie_id, lock=False)
    if first is None:
        return []
    return list(
        clerk.connection.execute(
            select(movies.c.movie_id)
            .where(movies.c.movie_id >= first.movie_id)
            .order_by(movies.c.movie_id)
            .limit(clerk.rng.randint(2, ROWS_AT_ONCE_MAX))
            .with_for_update()
        ).scalars()
    )


def _new_price(clerk: Clerk, old: Decimal) -> Decimal:
    new = make.money(old * Decimal(clerk.rng.randint(80, 125)) / 100)
    return min(max(new, _CHEAPEST), _DEAREST)

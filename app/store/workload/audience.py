"""The transactions of the customers: accounts, ratings, tags.

Each function does one business transaction for a Clerk and returns how many rows it changed;
0 if the store has no suitable row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, exists, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.store.planted.tastes import TASTES
from app.store.tables import make, vocabulary
from app.store.tables.schema import customers, movies, orders, ratings, tags
from app.store.workload.clerk import Clerk

# A merge of two customers moves at most this many rows in its one transaction.
MERGED_ROWS_MAX = 200


def new_customer(clerk: Clerk) -> int:
    """A customer opens an account."""
    customer_id = clerk.next_id(customers.c.customer_id)
    return clerk.add(customers, [make.customer(clerk.rng, customer_id, clerk.now)])


def update_profile(clerk: Clerk) -> int:
    """A customer changes the preferences (JSON) and the newsletter."""
    customer = clerk.pick(customers.c.customer_id)
    if customer is None:
        return 0
    return clerk.change(
        update(customers)
        .where(customers.c.customer_id == customer.customer_id)
        .values(
            preferences=make.preferences(clerk.rng),
            newsletter=clerk.rng.random() < 0.4,
            updated_at=clerk.now,
        )
    )


def merge_customers(clerk: Clerk) -> int:
    """A double account is merged into another one: its ratings, tags and orders change owner.

    A rating's key holds the customer, so each moved rating is a key change, now and then of a
    row whose review is stored out of line.
    """
    picked = [clerk.pick(customers.c.customer_id, lock=False, skew=s) for s in (1.5, 0.5)]
    pair = {row.customer_id for row in picked if row}
    if len(pair) < 2:
        return 0
    kept, gone = sorted(pair)
    locked = clerk.connection.execute(
        select(customers.c.customer_id, customers.c.movielens_user_id)
        .where(customers.c.customer_id.in_(pair))
        .order_by(customers.c.customer_id)
        .with_for_update()
    ).all()
    # An account from MovieLens stays: loading the files again would only bring it back.
    if len(locked) < 2 or locked[1].movielens_user_id is not None:
        return 0
    if _rows_of(clerk, gone) > MERGED_ROWS_MAX:
        return 0
    theirs = ratings.alias("theirs")
    same_movie = select(theirs.c.movie_id).where(theirs.c.customer_id == kept)
    same_tag = exists().where(
        (theirs_tags := tags.alias("theirs")).c.customer_id == kept,
        theirs_tags.c.movie_id == tags.c.movie_id,
        theirs_tags.c.tag == tags.c.tag,
    )
    old_rating, old_tag = ratings.c.customer_id == gone, tags.c.customer_id == gone
    return (
        clerk.change(delete(ratings).where(old_rating, ratings.c.movie_id.in_(same_movie)))
        + clerk.change(update(ratings).where(old_rating).values(customer_id=kept))
        + clerk.change(delete(tags).where(old_tag, same_tag))
        + clerk.change(update(tags).where(old_tag).values(customer_id=kept))
        + clerk.change(
            update(orders)
            .where(orders.c.customer_id == gone)
            .values(customer_id=kept, updated_at=clerk.now)
        )
        + clerk.change(delete(customers).where(customers.c.customer_id == gone))
    )


def rate_movie(clerk: Clerk) -> int:
    """A customer rates a movie, or changes a rating and mostly leaves the review as it is."""
    customer = clerk.pick(customers.c.customer_id, lock=False)
    movie = clerk.pick(movies.c.movie_id, lock=False, skew=2)
    if customer is None or movie is None:
        return 0
    row = make.rating(clerk.rng, customer.customer_id, movie.movie_id, clerk.now)
    statement = upsert(ratings).values(row)
    changed = {"stars": statement.excluded.stars, "rated_at": statement.excluded.rated_at}
    if clerk.rng.random() < 0.1:
        changed["review"] = statement.excluded.review
    return clerk.change(
        statement.on_conflict_do_update(
            index_elements=[ratings.c.customer_id, ratings.c.movie_id], set_=changed
        )
    )


def change_rating(clerk: Clerk) -> int:
    """A customer changes the stars of a rating; its review stays as it is."""
    rating = _some_rating(clerk)
    if rating is None:
        return 0
    return clerk.change(
        update(ratings)
        .where(ratings.c.customer_id == rating.customer_id, ratings.c.movie_id == rating.movie_id)
        .values(
            stars=TASTES.stars(clerk.rng, rating.customer_id, rating.movie_id), rated_at=clerk.now
        )
    )


def delete_rating(clerk: Clerk) -> int:
    """A customer takes a rating back."""
    rating = _some_rating(clerk)
    if rating is None:
        return 0
    return clerk.change(
        delete(ratings).where(
            ratings.c.customer_id == rating.customer_id, ratings.c.movie_id == rating.movie_id
        )
    )


def tag_movie(clerk: Clerk) -> int:
    """A customer tags a movie; the same tag again changes its relevance."""
    customer = clerk.pick(customers.c.customer_id, lock=False)
    movie = clerk.pick(movies.c.movie_id, lock=False, skew=2)
    if customer is None or movie is None:
        return 0
    statement = upsert(tags).values(
        customer_id=customer.customer_id,
        movie_id=movie.movie_id,
        tag=vocabulary.tag(clerk.rng),
        relevance=clerk.rng.random(),
        tagged_at=clerk.now,
    )
    return clerk.change(
        statement.on_conflict_do_update(
            index_elements=[tags.c.customer_id, tags.c.movie_id, tags.c.tag],
            set_={"relevance": statement.excluded.relevance},
        )
    )


def untag_movie(clerk: Clerk) -> int:
    """A tag is taken away."""
    tag = clerk.pick(tags.c.tag_id)
    return 0 if tag is None else clerk.change(delete(tags).where(tags.c.tag_id == tag.tag_id))


def _some_rating(clerk: Clerk) -> Row[Any] | None:
    """A random rating's key, locked; None if there is none at or after the probed place."""
    probed = clerk.pick(ratings.c.customer_id, lock=False)
    if probed is None:
        return None
    top = clerk.connection.execute(select(func.max(ratings.c.movie_id))).scalar_one()
    key = (ratings.c.customer_id, ratings.c.movie_id)
    place = (probed.customer_id, clerk.rng.randint(1, top))
    return clerk.connection.execute(
        select(*key).where(tuple_(*key) >= place).order_by(*key).limit(1).with_for_update()
    ).first()


def _rows_of(clerk: Clerk, customer_id: int) -> int:
    """How many ratings, tags and orders a customer has."""
    counts = [
        select(func.count()).where(table.c.customer_id == customer_id).scalar_subquery()
        for table in (ratings, tags, orders)
    ]
    return int(sum(clerk.connection.execute(select(*counts)).one()))

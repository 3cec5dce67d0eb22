"""The SQL that takes staged MovieLens rows into the store's tables.

Each chunk of a file is copied into a temporary table and merged from there, in one transaction.
All statements may be repeated: existing rows are left unchanged, so an interrupted load is simply started again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Merge:
    """How one file's rows get into the store.

    Args:
        staged: name of the temporary table.
        columns: its columns after `line`, as DDL; in the order of the file's records.
        unknown: selects the lines (line, text) that refer to a missing movie; None if that is impossible.
        statements: SQL in order; the last one's row count is what the chunk changed.
    """

    staged: str
    columns: str
    unknown: str | None
    statements: tuple[str, ...]

    @property
    def create(self) -> str:
        return (
            f"create temporary table if not exists {self.staged} "
            f"(line bigint not null, {self.columns}) on commit delete rows"
        )


# A price is made from the id: MovieLens knows none, and a repeated load must not change it.
_MOVIES = (
    """
    insert into genres (genre_id, name)
    select (select coalesce(max(genre_id), 0) from genres) + row_number() over (order by name),
           name
    from (select distinct unnest(genres) as name from staged_movies) named
    where not exists (select from genres g where g.name = named.name)
    """,
    """
    with fresh as (
        select distinct on (movielens_id) * from staged_movies
        order by movielens_id, line desc
    ), merged as (
        insert into movies (sku, title, release_year, price, movielens_id)
        select 'ML-' || lpad(movielens_id::text, 8, '0'), title, release_year,
               (199 + movielens_id::bigint * 7919 % 2300) / 100.0, movielens_id
        from fresh order by movielens_id
        on conflict (movielens_id) do update
        set title = excluded.title, release_year = excluded.release_year, updated_at = now()
        where (movies.title, movies.release_year)
              is distinct from (excluded.title, excluded.release_year)
        returning movie_id, movielens_id, xmax = 0 as is_new
    ), categorised as (
        insert into movie_genres (movie_id, genre_id)
        select m.movie_id, g.genre_id
        from merged m join fresh f using (movielens_id)
        cross join unnest(f.genres) as named(name) join genres g on g.name = named.name
        where m.is_new
    )
    select movie_id from merged
    """,
)

_UNKNOWN_MOVIE = """
    delete from {staged} s
    where not exists (select from movies m where m.movielens_id = s.movie_id)
    returning line, movie_id
"""

_CUSTOMERS = """
    insert into customers
        (public_id, email, full_name, country, movielens_user_id, created_at, updated_at)
    select md5('movielens ' || user_id)::uuid, 'movielens.' || user_id || '@example.com',
           'MovieLens user ' || user_id, 'US', user_id, to_timestamp(first), to_timestamp(first)
    from (select user_id, min(seconds) as first from {staged} group by user_id) users
    where not exists (select from customers c where c.movielens_user_id = users.user_id)
    order by user_id
    on conflict (movielens_user_id) do nothing
"""

# The newer rating of a movie by one customer stays, whether it came from the files or not.
_RATINGS = """
    insert into ratings (customer_id, movie_id, stars, rated_at)
    select distinct on (c.customer_id, m.movie_id)
           c.customer_id, m.movie_id, s.stars, to_timestamp(s.seconds)
    from staged_ratings s
    join customers c on c.movielens_user_id = s.user_id
    join movies m on m.movielens_id = s.movie_id
    order by c.customer_id, m.movie_id, s.seconds desc, s.line desc
    on conflict (customer_id, movie_id) do update
    set stars = excluded.stars, rated_at = excluded.rated_at
    where ratings.rated_at < excluded.rated_at
"""

_TAGS = """
    insert into tags (customer_id, movie_id, tag, tagged_at)
    select distinct on (c.customer_id, m.movie_id, s.tag)
           c.customer_id, m.movie_id, s.tag, to_timestamp(s.seconds)
    from staged_tags s
    join customers c on c.movielens_user_id = s.user_id
    join movies m on m.movielens_id = s.movie_id
    where not exists (
        select from tags t
        where t.customer_id = c.customer_id and t.movie_id = m.movie_id and t.tag = s.tag)
    order by c.customer_id, m.movie_id, s.tag, s.seconds desc, s.line desc
    on conflict (customer_id, movie_id, tag) do nothing
"""

_LINKS = """
    update movies m
    set imdb_id = s.imdb_id, tmdb_id = s.tmdb_id, updated_at = now()
    from (select distinct on (movie_id) * from staged_links order by movie_id, line desc) s
    where m.movielens_id = s.movie_id
      and (m.imdb_id, m.tmdb_id) is distinct from (s.imdb_id, s.tmdb_id)
"""

MOVIES = Merge(
    "staged_movies",
    "movielens_id integer, title text, release_year smallint, genres text[]",
    None,
    _MOVIES,
)
RATINGS = Merge(
    "staged_ratings",
    "user_id integer, movie_id integer, stars numeric(2, 1), seconds bigint",
    _UNKNOWN_MOVIE.format(staged="staged_ratings"),
    (_CUSTOMERS.format(staged="staged_ratings"), _RATINGS),
)
TAGS = Merge(
    "staged_tags",
    "user_id integer, movie_id integer, tag text, seconds bigint",
    _UNKNOWN_MOVIE.format(staged="staged_tags"),
    (_CUSTOMERS.format(staged="staged_tags"), _TAGS),
)
LINKS = Merge(
    "staged_links",
    "movie_id integer, imdb_id integer, tmdb_id integer",
    _UNKNOWN_MOVIE.format(staged="staged_links"),
    (_LINKS,),
)

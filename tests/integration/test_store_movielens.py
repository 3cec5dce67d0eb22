"""Loading files in MovieLens' format into a real Postgres."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.errors import HeadwaterError
from app.store.movielens.movielens_load import FileReport, load_movielens
from app.store.tables.schema import TABLES
from app.store.tables.seed import Sizes, seed_store
from app.store.workload.store_workload import Workload
from tests.support.postgres import rows_of

FILES = {
    "movies.csv": """movieId,title,genres
1,Toy Story (1995),Adventure|Animation
2,"American President, The (1995)",Comedy|Drama
3,Babylon 5,(no genres listed)
4,Amélie (2001),Romance|Brand New Genre
4,Amélie de Montmartre (2001),Romance
""",
    "links.csv": """movieId,imdbId,tmdbId
1,0114709,862
2,0112346,
9,0000009,9
""",
    "ratings.csv": """userId,movieId,rating,timestamp
1,1,4.0,964982703
1,2,3.5,964981247
1,1,2.0,964982999
2,1,five,964982703
2,3,0.5,1445714994
2,77,0.5,1445714994
""",
    "tags.csv": '''userId,movieId,tag,timestamp
2,3,"space, ""opera""",1445714994
2,3,"space, ""opera""",1445714999
3,4,Paris,1445714994
3,5,no such movie,1445714994
''',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ml"
    made.mkdir()
    for name, content in FILES.items():
        (made / name).write_text(content, encoding="utf-8")
    return made


def load(engine: Engine, folder: Path, chunk_rows: int = 50_000) -> list[FileReport]:
    return load_movielens(
        engine,
        folder,
        rejects=folder.parent / "rejects.csv",
        chunk_rows=chunk_rows,
        stream=io.StringIO(),
    )


def rows(engine: Engine, query: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@pytest.mark.parametrize("chunk_rows", [1, 2, 50_000])
def test_the_files_become_rows_of_the_store(engine: Engine, folder: Path, chunk_rows: int) -> None:
    load(engine, folder, chunk_rows)
    assert rows(
        engine,
        "select movielens_id, title, release_year, imdb_id, tmdb_id from movies order by 1",
    ) == [
        (1, "Toy Story", 1995, 114709, 862),
        (2, "American President, The", 1995, 112346, None),
        (3, "Babylon 5", None, None, None),
        (4, "Amélie de Montmartre", 2001, None, None),
    ]
    assert rows(
        engine,
        """select movielens_user_id, movielens_id, stars::text, extract(epoch from rated_at)::bigint
           from ratings join customers using (customer_id) join movies using (movie_id)
           order by 1, 2""",
    ) == [
        (1, 1, "2.0", 964982999),
        (1, 2, "3.5", 964981247),
        (2, 3, "0.5", 1445714994),
    ]
    assert rows(
        engine,
        """select movielens_user_id, movielens_id, tag
           from tags join customers using (customer_id) join movies using (movie_id) order by 1""",
    ) == [(2, 3, 'space, "opera"'), (3, 4, "Paris")]
    genres = """
        select name from movie_genres join genres using (genre_id) join movies using (movie_id)
        where movielens_id = 2 order by 1
    """
    assert rows(engine, genres) == [("Comedy",), ("Drama",)]


def test_skipped_lines_are_told_by_number_with_the_reason(engine: Engine, folder: Path) -> None:
    reports = load(engine, folder)
    with (folder.parent / "rejects.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "line", "reason", "text"],
            ["links.csv", "4", "there is no movie 9 in movies.csv", "9,9,9"],
            [
                "ratings.csv",
                "5",
                "rating `five` is not one of 0.5, 1.0 … 5.0",
                "2,1,five,964982703",
            ],
            ["ratings.csv", "7", "there is no movie 77 in movies.csv", "2,77,0.5,1445714994"],
            ["tags.csv", "5", "there is no movie 5 in movies.csv", "3,5,no such movie,1445714994"],
        ]
    assert reports == [
        FileReport("movies.csv", read=5, changed=4, unchanged=1, rejected=0),
        FileReport("links.csv", read=3, changed=2, unchanged=0, rejected=1),
        FileReport("ratings.csv", read=6, changed=3, unchanged=1, rejected=2),
        FileReport("tags.csv", read=4, changed=2, unchanged=1, rejected=1),
    ]


def test_loading_again_changes_no_row(engine: Engine, folder: Path) -> None:
    load(engine, folder)
    before = {table.name: rows_of(engine, table) for table in TABLES}
    reports = load(engine, folder)
    assert [report.changed for report in reports] == [0, 0, 0, 0]
    assert {table.name: rows_of(engine, table) for table in TABLES} == before


def test_an_interrupted_load_is_finished_by_starting_again(engine: Engine, folder: Path) -> None:
    """The load stops at the second chunk of the ratings, then runs to the end."""
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n"
        + "".join(f"{user},1,4.0,964982703\n" for user in range(1, 30))
        + "x,1,4.0,964982703\n" * 3
        + "".join(f"{user},1,4.0,964982703\n" for user in range(30, 60))
    )
    with pytest.raises(HeadwaterError, match="more than 2 lines are malformed"):
        load_movielens(
            engine, folder, rejects=folder.parent / "r.csv", rejects_max=2, chunk_rows=10,
            stream=io.StringIO(),
        )  # fmt: skip
    loaded = rows(engine, "select count(*) from ratings")
    assert loaded == [(20,)]
    load(engine, folder, chunk_rows=10)
    assert rows(engine, "select count(*) from ratings") == [(59,)]


def test_a_newer_rating_of_the_store_stays(engine: Engine, folder: Path) -> None:
    load(engine, folder)
    with engine.begin() as connection:
        connection.execute(text("update ratings set stars = 5, rated_at = now()"))
    load(engine, folder)
    assert rows(engine, "select distinct stars::text from ratings") == [("5.0",)]


def test_files_load_into_a_seeded_store_and_the_workload_goes_on(
    engine: Engine, folder: Path
) -> None:
    seed_store(engine, sizes=Sizes.scaled(0.05))
    load(engine, folder)
    assert rows(engine, "select count(*) from movies") == [(54,)]
    assert Workload(engine, rate=0).run(changes_max=200).conflicts == 0


def test_only_movies_must_be_there(engine: Engine, folder: Path) -> None:
    for name in ("ratings.csv", "tags.csv", "links.csv"):
        (folder / name).unlink()
    assert [report.file for report in load(engine, folder)] == ["movies.csv"]
    (folder / "movies.csv").unlink()
    with pytest.raises(HeadwaterError, match=r"holds no movies\.csv"):
        load(engine, folder)


def test_progress_reaches_the_end_of_every_file(engine: Engine, folder: Path) -> None:
    stream = io.StringIO()
    load_movielens(engine, folder, rejects=folder.parent / "rejects.csv", stream=stream)
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "movies.csv",
        "links.csv",
        "ratings.csv",
        "tags.csv",
    ]
    assert all("100%" in line for line in lines)

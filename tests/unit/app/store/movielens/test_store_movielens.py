"""Reading MovieLens files: valid lines, malformed lines, and progress."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import HeadwaterError
from app.store.movielens import movielens_files as movielens
from app.store.movielens.load_progress import Progress
from app.store.movielens.movielens_files import (
    Reject,
    parse_movie,
    parse_rating,
    read_records,
    split_fields,
)
from app.store.movielens.movielens_load import RejectFile


def read(
    path: Path, shape: movielens.Format[Any]
) -> tuple[list[tuple[int, object]], list[tuple[int, str]]]:
    """(number, record) of the good lines, (number, reason) of the others."""
    rejects: list[Reject] = []
    lines = [
        (line.number, line.record) for line in read_records(path, shape, reject=rejects.append)
    ]
    return lines, [(rejected.number, rejected.reason) for rejected in rejects]


def test_a_title_gives_its_year_away() -> None:
    assert parse_movie(["1", "Toy Story (1995)", "Comedy|Adventure"]) == (
        1,
        "Toy Story",
        1995,
        ["Adventure", "Comedy"],
    )


@pytest.mark.parametrize("title", ["Babylon 5", "Fawlty Towers (1975-1979)", "(1984)", "X (9999)"])
def test_a_title_without_a_clear_year_stays_as_it_is(title: str) -> None:
    assert parse_movie(["1", title, ""])[1:3] == (title, None)


@pytest.mark.parametrize("rating", ["0", "5.5", "3.2", "nan", "-1", "", "4,0"])
def test_a_rating_off_the_scale_is_malformed(rating: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        parse_rating(["1", "2", rating, "964982703"])


@pytest.mark.parametrize("user", ["", "0", "-3", "1e3", "١", "2147483648", "1_0", " 7"])
def test_an_id_that_is_no_plain_number_is_malformed(user: str) -> None:
    with pytest.raises(ValueError, match="userId"):
        parse_rating([user, "2", "3.5", "964982703"])


def test_a_time_in_milliseconds_is_malformed() -> None:
    with pytest.raises(ValueError, match="not a time in seconds"):
        parse_rating(["1", "2", "3.5", "1537945149000"])


def test_quotes_are_read_as_csv_and_a_stray_one_costs_one_line() -> None:
    assert split_fields(b'3,"Lamp, ""The"" (2011)",Drama\r\n') == [
        "3",
        'Lamp, "The" (2011)',
        "Drama",
    ]
    with pytest.raises(ValueError, match="not CSV"):
        split_fields(b'3,"Lamp,Drama\n')


def test_malformed_lines_are_told_by_number_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_bytes(
        b"\xef\xbb\xbfuserId,movieId,tag,timestamp\r\n"
        b"1,2,funny,1445714994\r\n"
        b"1,2,caf\xe9,1445714994\r\n"
        b"1,2,too,many,1445714994\r\n"
        b'1,2,"open,1445714994\r\n'
        b"\r\n"
        b"1,2,a\x00b,1445714994\r\n"
        b"1,2," + b"x" * 501 + b",1445714994\r\n"
        b"1,2," + b"y" * 70_000 + b",1445714994\r\n"
        b'1,2,"a ""quoted"", tag \xf0\x9f\x8e\xac",1445714994'
    )
    lines, rejects = read(path, movielens.TAGS)
    assert lines == [
        (2, (1, 2, "funny", 1445714994)),
        (10, (1, 2, 'a "quoted", tag 🎬', 1445714994)),
    ]
    assert rejects == [
        (3, "not UTF-8 at byte 8 of the line"),
        (4, "5 fields, not 4 as in the header"),
        (5, "not CSV: unexpected end of data"),
        (7, "the line holds a NUL byte"),
        (8, "the tag has 501 characters, not 1 to 500"),
        (9, "the line is longer than 65536 bytes"),
    ]


def test_links_may_lack_an_id(tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    path.write_text("movieId,imdbId,tmdbId\n1,0114709,862\n2,0113497,\n3,x,1\n")
    lines, rejects = read(path, movielens.LINKS)
    assert [record for _, record in lines] == [(1, 114709, 862), (2, 113497, None)]
    assert rejects == [(4, "imdbId `x` is not a number from 1 to 2147483647")]


def test_another_file_is_recognised_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,stars\n1,2,3\n")
    with pytest.raises(HeadwaterError, match=r"ratings\.csv is not a MovieLens file") as failed:
        read(path, movielens.RATINGS)
    assert "`user,item,stars`" in failed.value.detail


@given(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b)))
def test_every_line_is_read_or_rejected_or_empty(
    tmp_path_factory: pytest.TempPathFactory, raw: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "links.csv"
    path.write_bytes(b"movieId,imdbId,tmdbId\n" + b"".join(line + b"\n" for line in raw))
    passed: list[int] = []
    rejects: list[Reject] = []
    lines = list(read_records(path, movielens.LINKS, reject=rejects.append, passed=passed.append))
    empty = sum(not line.strip(b"\r") for line in raw)
    numbers = [line.number for line in lines] + [rejected.number for rejected in rejects]
    assert len(numbers) == len(set(numbers)) == len(raw) - empty
    assert sum(passed) == path.stat().st_size


def test_the_reject_file_is_made_only_when_there_is_a_reject(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    with RejectFile(path, 10):
        pass
    assert not path.exists()


def test_the_reject_file_keeps_line_reason_and_text_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    with RejectFile(path, 1) as rejects:
        rejects.add(Reject("tags.csv", 7, "no, really", 'a "b"'))
        with pytest.raises(HeadwaterError, match="more than 1 lines are malformed"):
            rejects.add(Reject("tags.csv", 8, "why", "text"))
    assert path.read_text() == 'file,line,reason,text\ntags.csv,7,"no, really","a ""b"""\n'


def test_progress_tells_rows_share_rate_and_time_left() -> None:
    now = [0.0]
    stream = io.StringIO()
    progress = Progress("ratings.csv", 1_000, stream, lambda: now[0])
    progress.passed(250)
    progress.loaded(50)
    now[0] = 10.0
    progress.loaded(50)
    assert stream.getvalue() == "ratings.csv: 100 rows, 25%, 10 rows/s, 30 s left\n"
    progress.passed(750)
    progress.finish()
    assert stream.getvalue().splitlines()[-1] == "ratings.csv: 100 rows, 100%, 10 rows/s, 0 s left"

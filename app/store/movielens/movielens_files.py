"""Reads the MovieLens CSV files line by line, and reports every malformed line.

The files (`movies.csv`, `ratings.csv`, `tags.csv`, `links.csv`) have the same shape from the
100,000 ratings of `ml-latest-small` to the 33 million of the full set. One line is one record:
a quoted field does not span lines, so that a stray quote costs one line and not the file's rest.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from app.errors import HeadwaterError

LINE_BYTES_MAX = 65_536
TAG_CHARS_MAX = 500
GENRE_CHARS_MAX = 40
_INT_MAX = 2_147_483_647
_SMALLEST_YEAR, _LARGEST_YEAR = 1870, 2100
# 2100-01-01: a larger number is not a time in seconds, but probably one in milliseconds.
_SECONDS_MAX = 4_102_444_800
_YEAR = re.compile(r"^(.*\S)\s*\((\d{4})\)$")
_STARS = {f"{half / 2:g}": half / 2 for half in range(1, 11)} | {
    f"{half / 2:.1f}": half / 2 for half in range(1, 11)
}

Record = TypeVar("Record")


@dataclass(frozen=True)
class Line(Generic[Record]):
    """A record with its place: `number` counts from 1, including the header."""

    number: int
    record: Record


@dataclass(frozen=True)
class Reject:
    """A line that was skipped: where, why, and its text (undecodable bytes as `\\xNN`)."""

    file: str
    number: int
    reason: str
    text: str


Movie = tuple[int, str, "int | None", list[str]]  # MovieLens id, title, year, genres
Rating = tuple[int, int, float, int]  # user, movie, stars, seconds since 1970 (UTC)
Tag = tuple[int, int, str, int]  # user, movie, tag, seconds since 1970 (UTC)
Link = tuple[int, "int | None", "int | None"]  # movie, IMDb id, TMDB id


def parse_movie(fields: list[str]) -> Movie:
    movie_id, title, genres = fields
    title = title.strip()
    if not title:
        raise ValueError("the title is empty")
    names = sorted({name.strip() for name in genres.split("|")} - {""})
    if any(len(name) > GENRE_CHARS_MAX for name in names):
        raise ValueError(f"a genre is longer than {GENRE_CHARS_MAX} characters")
    year = None
    dated = _YEAR.match(title)
    if dated and _SMALLEST_YEAR <= int(dated[2]) <= _LARGEST_YEAR:
        title, year = dated[1], int(dated[2])
    return _id(movie_id, "movieId"), title, year, names


def parse_rating(fields: list[str]) -> Rating:
    user_id, movie_id, rating, timestamp = fields
    stars = _STARS.get(rating)
    if stars is None:
        raise ValueError(f"rating `{rating[:20]}` is not one of 0.5, 1.0 … 5.0")
    return _id(user_id, "userId"), _id(movie_id, "movieId"), stars, _seconds(timestamp)


def parse_tag(fields: list[str]) -> Tag:
    user_id, movie_id, tag, timestamp = fields
    tag = tag.strip()
    if not 1 <= len(tag) <= TAG_CHARS_MAX:
        raise ValueError(f"the tag has {len(tag)} characters, not 1 to {TAG_CHARS_MAX}")
    return _id(user_id, "userId"), _id(movie_id, "movieId"), tag, _seconds(timestamp)


def parse_link(fields: list[str]) -> Link:
    movie_id, imdb_id, tmdb_id = fields
    return (
        _id(movie_id, "movieId"),
        _id(imdb_id, "imdbId") if imdb_id else None,
        _id(tmdb_id, "tmdbId") if tmdb_id else None,
    )


def _id(text: str, name: str) -> int:
    # isdecimal and isascii: int() also takes signs, spaces, underscores and other scripts.
    if text.isascii() and text.isdecimal() and 0 < (number := int(text)) <= _INT_MAX:
        return number
    raise ValueError(f"{name} `{text[:20]}` is not a number from 1 to {_INT_MAX}")


def _seconds(text: str) -> int:
    if text.isascii() and text.isdecimal() and (number := int(text)) < _SECONDS_MAX:
        return number
    raise ValueError(f"timestamp `{text[:20]}` is not a time in seconds since 1970")


@dataclass(frozen=True)
class Format(Generic[Record]):
    """The shape of one of the files."""

    name: str
    header: tuple[str, ...]
    parse: Callable[[list[str]], Record]


MOVIES = Format("movies.csv", ("movieId", "title", "genres"), parse_movie)
RATINGS = Format("ratings.csv", ("userId", "movieId", "rating", "timestamp"), parse_rating)
TAGS = Format("tags.csv", ("userId", "movieId", "tag", "timestamp"), parse_tag)
LINKS = Format("links.csv", ("movieId", "imdbId", "tmdbId"), parse_link)


def read_records(
    path: Path,
    shape: Format[Record],
    *,
    reject: Callable[[Reject], None],
    passed: Callable[[int], None] = lambda _: None,
) -> Iterator[Line[Record]]:
    """The records of a file, one after another, in bounded memory.

    Args:
        reject: called with each malformed line, which is then skipped.
        passed: called after each line with its length in bytes.
    Raises: HeadwaterError if the file's header is another one's.
    """
    with path.open("rb") as file:
        header = file.readline(LINE_BYTES_MAX)
        _check_header(path, header, shape.header)
        passed(len(header))
        number = 1
        while line := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            length = len(line)
            try:
                if length > LINE_BYTES_MAX:
                    length += _skip_rest(file.readline, line)
                    raise ValueError(f"the line is longer than {LINE_BYTES_MAX} bytes")
                fields = split_fields(line)
                if fields is not None:
                    if len(fields) != len(shape.header):
                        raise ValueError(
                            f"{len(fields)} fields, not {len(shape.header)} as in the header"
                        )
                    yield Line(number, shape.parse(fields))
            except ValueError as error:
                reject(Reject(shape.name, number, _reason(error), _shown(line)))
            passed(length)


def split_fields(line: bytes) -> list[str] | None:
    """The fields of one CSV line; None for an empty line.

    Raises: ValueError for bytes that are not UTF-8, a NUL, or a quote that does not close.
    """
    text = line.decode("utf-8").rstrip("\r\n")
    if "\0" in text:
        raise ValueError("the line holds a NUL byte")
    if '"' not in text:
        return text.split(",") if text else None
    try:
        [fields] = csv.reader([text], strict=True)
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from None
    return fields


def _check_header(path: Path, line: bytes, expected: tuple[str, ...]) -> None:
    observed = line.decode("utf-8-sig", errors="replace").strip()
    if tuple(observed.replace('"', "").split(",")) != expected:
        raise HeadwaterError(
            f"{path.name} is not a MovieLens file",
            detail=f"its first line is `{observed[:80]}`, expected `{','.join(expected)}`",
            hint="give the folder that the MovieLens archive was unpacked into",
        )


def _skip_rest(readline: Callable[[int], bytes], line: bytes) -> int:
    skipped = 0
    while line and not line.endswith(b"\n"):
        line = readline(LINE_BYTES_MAX)
        skipped += len(line)
    return skipped


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start + 1} of the line"
    return str(error)


def _shown(line: bytes) -> str:
    return line[:500].rstrip(b"\r\n").decode("utf-8", errors="backslashreplace")

"""Loads the MovieLens files into the store, streamed through COPY chunk by chunk."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from psycopg import sql
from sqlalchemy import Connection, Engine, text

from app.errors import HeadwaterError
from app.store.movielens import movielens_files as movielens
from app.store.movielens import movielens_sql
from app.store.movielens.load_progress import Progress
from app.store.movielens.movielens_files import Format, Line, Reject, read_records
from app.store.movielens.movielens_sql import Merge
from app.store.tables.create import create_within
from app.store.tables.store_connection import driver

# Rows of one transaction: large enough for COPY to be fast, small enough to bound memory, also in
# programs that decode the WAL.
CHUNK_ROWS = 50_000
REJECTS_MAX = 10_000

# Ratings and tags refer to movies, so movies.csv is loaded first; only that file is required.
_FILES: tuple[tuple[Format[Any], Merge], ...] = (
    (movielens.MOVIES, movielens_sql.MOVIES),
    (movielens.LINKS, movielens_sql.LINKS),
    (movielens.RATINGS, movielens_sql.RATINGS),
    (movielens.TAGS, movielens_sql.TAGS),
)


@dataclass
class FileReport:
    """The outcome of one file's lines: `read` = `changed` + `unchanged` + `rejected`.

    `changed` lines made or changed a row of the file's table; `unchanged` ones were there
    already, or repeat another line.
    """

    file: str
    read: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0


class RejectFile:
    """Keeps skipped lines as CSV (file, line, reason, text), up to a limit; made when needed.

    Raises HeadwaterError at the first one beyond `limit`: then these are hardly MovieLens files.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._stack = ExitStack()
        self._writer: Any = None
        self.count = 0

    def __enter__(self) -> RejectFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, rejected: Reject) -> None:
        if self.count >= self._limit:
            raise HeadwaterError(
                f"more than {self._limit:,} lines are malformed",
                detail=f"{rejected.file}, line {rejected.number}: {rejected.reason}",
                hint=f"see {self._path}; raise the limit with --max-rejects",
            )
        if self._writer is None:
            file = self._stack.enter_context(self._path.open("w", encoding="utf-8", newline=""))
            self._writer = csv.writer(file, lineterminator="\n")
            self._writer.writerow(("file", "line", "reason", "text"))
        self._writer.writerow((rejected.file, rejected.number, rejected.reason, rejected.text))
        self.count += 1


def load_movielens(
    engine: Engine,
    folder: Path,
    *,
    rejects: Path,
    rejects_max: int = REJECTS_MAX,
    chunk_rows: int = CHUNK_ROWS,
    stream: TextIO = sys.stderr,
    clock: Callable[[], float] = time.monotonic,
) -> list[FileReport]:
    """Load the MovieLens files of `folder`: users become customers, the rest their own rows.

    Each chunk is one transaction. An interrupted load is started again and skips existing rows; a row that is newer
    in the store than in the files stays.

    Args:
        folder: holds `movies.csv` and any of `ratings.csv`, `tags.csv`, `links.csv`.
        rejects: gets malformed lines, as CSV with file, line number, reason and text. stream: gets the progress.
    Returns: one report a file, in the order of loading.
    Raises: HeadwaterError for a missing folder or file, a wrong header, or too many rejects.
    """
    files = _present(folder)
    with engine.begin() as connection:
        create_within(connection)
    reports = []
    with RejectFile(rejects, rejects_max) as reject_file, engine.connect() as connection:
        for path, shape, merge in files:
            progress = Progress(path.name, path.stat().st_size, stream, clock)
            report = FileReport(path.name)
            lines = read_records(
                path, shape, reject=_counting(reject_file, report), passed=progress.passed
            )
            while chunk := list(islice(lines, chunk_rows)):
                _load_chunk(connection, merge, shape.name, chunk, report, reject_file)
                progress.loaded(len(chunk))
            progress.finish()
            reports.append(report)
        for table in ("movies", "customers", "ratings", "tags"):
            connection.execute(text(f"analyze {table}"))
        connection.commit()
    return reports


def _present(folder: Path) -> list[tuple[Path, Format[Any], Merge]]:
    if not folder.is_dir():
        raise HeadwaterError(
            f"{folder} is not a folder",
            hint="unpack the MovieLens archive and give the folder that holds movies.csv",
        )
    found = [(folder / shape.name, shape, merge) for shape, merge in _FILES]
    if not found[0][0].is_file():
        raise HeadwaterError(
            f"{folder} holds no movies.csv",
            detail=f"it holds {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}",
            hint="give the folder that the MovieLens archive was unpacked into",
        )
    return [entry for entry in found if entry[0].is_file()]


def _counting(reject_file: RejectFile, report: FileReport) -> Callable[[Reject], None]:
    def reject(rejected: Reject) -> None:
        reject_file.add(rejected)
        report.read += 1
        report.rejected += 1

    return reject


def _load_chunk(
    connection: Connection,
    merge: Merge,
    file: str,
    chunk: list[Line[Any]],
    report: FileReport,
    reject_file: RejectFile,
) -> None:
    """Merge one chunk in one transaction; the report and the rejects follow the commit."""
    with connection.begin():
        connection.execute(text(merge.create))
        _copy(connection, merge, ((line.number, *line.record) for line in chunk))
        connection.execute(text(f"analyze {merge.staged}"))  # autovacuum does not see it
        unknown = connection.execute(text(merge.unknown)).all() if merge.unknown else []
        changed = 0
        for statement in merge.statements:
            changed = connection.execute(text(statement)).rowcount
    texts = {line.number: line.record for line in chunk} if unknown else {}
    for number, movie_id in sorted(tuple(row) for row in unknown):
        reason = f"there is no movie {movie_id} in movies.csv"
        fields = ",".join("" if field is None else str(field) for field in texts[number])
        reject_file.add(Reject(file, number, reason, fields))
    report.read += len(chunk)
    report.rejected += len(unknown)
    report.changed += changed
    report.unchanged += len(chunk) - len(unknown) - changed


def _copy(connection: Connection, merge: Merge, rows: Iterator[tuple[object, ...]]) -> None:
    statement = sql.SQL("copy {} from stdin").format(sql.Identifier(merge.staged))
    with driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def as_dicts(reports: list[FileReport]) -> list[dict[str, object]]:
    return [asdict(report) for report in reports]

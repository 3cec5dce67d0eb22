"""Publishes a table of the lake in the serving database.

1. The table is read from Trino, at one Delta version.
2. Its rows are copied into a new table beside the published one.
3. The new table takes the old one's name, and a row of table `publications` describes it, at once.

Whatever fails leaves the published table as it was: readers see the old rows or the new ones, never half of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import psycopg
import trino.exceptions
from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from app.errors import HeadwaterError
from app.query.trino_connection import connect, explain
from app.serving.serving_address import serving_database
from app.serving.serving_database import ServingDatabase, short


@dataclass(frozen=True)
class Progress:
    """The source position of the rows that were read: nothing committed before it is missing."""

    lsn: int | None
    time: datetime | None


@dataclass(frozen=True)
class Publication:
    """What is published, and the job and task that it is recorded for."""

    table: str  # schema.table in the lake
    name: str
    key: Sequence[str]
    job: str | None = None
    run: str | None = None


@dataclass(frozen=True)
class Answer:
    """A table as Trino reads it."""

    version: int | None
    columns: list[tuple[str, str]]  # name, type
    rows: Iterator[Sequence[Any]]


def publish(wanted: Publication, trino_url: str, dsn: str, read_versions: dict[str, int]) -> int:
    """Publish. Returns: the number of rows. Raises: HeadwaterError; then nothing has changed.

    Args:
        read_versions: the Delta versions of silver's tables that the published one was made of.
    """
    with closing(connect(trino_url)) as connection:
        try:
            answer = read(connection, wanted.table)
            own = {} if answer.version is None else {wanted.table: answer.version}
            progress = progress_of(connection, {**read_versions, **own})
            return write(wanted, answer, progress, dsn)
        except (trino.exceptions.Error, OSError) as error:
            raise explain(error, trino_url) from error


def read(connection: Any, table: str) -> Answer:
    """Ask for the rows of a table at its newest version; of a view at whatever it reads."""
    schema, _, name = table.partition(".")
    version = _version(connection, schema, name)
    at = "" if version is None else f" FOR VERSION AS OF {version}"
    cursor = connection.cursor()
    cursor.execute(f'SELECT * FROM lake."{schema}"."{name}"{at}')
    columns = [(one[0], one[1]) for one in cursor.description]
    return Answer(version, columns, iter(cursor.fetchone, None))


def _version(connection: Any, schema: str, name: str) -> int | None:
    cursor = connection.cursor()
    try:
        cursor.execute(f'SELECT max(version) FROM lake."{schema}"."{name}$history"')
        return int(cursor.fetchone()[0])
    except trino.exceptions.TrinoUserError:
        return None  # a view; or no table, and then the next statement says so


def progress_of(connection: Any, versions: dict[str, int]) -> Progress:
    """Return how far all of these versions are complete, by silver's ledger, or unknown."""
    silver = {name.partition(".")[2]: at for name, at in versions.items() if name[:7] == "silver."}
    if not silver:
        return Progress(None, None)
    met = " OR ".join(
        f"(table_name = '{name}' AND delta_version <= {version})"
        for name, version in silver.items()
    )
    cursor = connection.cursor()
    cursor.execute(
        "SELECT count(*), min(lsn), min(time) FROM (SELECT max(complete_lsn) AS lsn, "
        f"max(source_time) AS time FROM lake.ops.ledger WHERE {met} GROUP BY table_name)"
    )
    count, lsn, time = cursor.fetchone()
    return Progress(lsn, time) if count == len(silver) else Progress(None, None)


class Digested:
    """Rows on their way, their number, and a digest of them that does not depend on their order."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        self.count = 0
        self._rows, self._total = rows, 0

    def __iter__(self) -> Iterator[Sequence[Any]]:
        for row in self._rows:
            self.count += 1
            digest = hashlib.sha256(repr(tuple(row)).encode()).digest()
            self._total += int.from_bytes(digest[:16], "big")
            yield row

    @property
    def digest(self) -> str:
        """The digest of the rows that have passed."""
        return f"{self._total % (1 << 128):032x}"


def write(wanted: Publication, answer: Answer, progress: Progress, dsn: str) -> int:
    """Replace the published table. Returns: the number of its rows."""
    missing = sorted(set(wanted.key) - {name for name, _ in answer.columns})
    if missing:
        raise HeadwaterError(
            f"{wanted.table} has no column `{missing[0]}`, which is in the key",
            hint=f"its columns are {', '.join(name for name, _ in answer.columns)}",
        )
    database = serving_database(dsn)
    try:
        with database.connected() as connection:
            with database.publishing(connection, wanted.name) as beside:
                database.make_publications(connection)
                table = database.new_table(beside, answer.columns, wanted.key)
                rows = _fill(database, connection, table, wanted, answer)
                record = {
                    "name": wanted.name,
                    "source_table": wanted.table,
                    "delta_version": answer.version,
                    "complete_lsn": progress.lsn,
                    "complete_to": progress.time,
                    "rows": rows.count,
                    "digest": rows.digest,
                    "job": wanted.job,
                    "run_id": wanted.run,
                    "published_at": datetime.now(timezone.utc),
                }
                database.replace(connection, table, wanted.name, record)
    except (DBAPIError, psycopg.Error) as error:  # of a COPY it is psycopg's own
        if isinstance(error, DBAPIError) and database.is_key_violation(error):
            message = f"`{', '.join(wanted.key)}` is no key of {wanted.table}"
            raise HeadwaterError(message, detail=short(error)) from error
        raise HeadwaterError(
            f"`{wanted.name}` could not be published; it stays as it was",
            detail=short(error),
            hint="./headwater status serving-db; with `serving_dsn`, ./headwater profile check FILE",
        ) from error
    return rows.count


def _fill(
    database: ServingDatabase,
    connection: Connection,
    table: Table,
    wanted: Publication,
    answer: Answer,
) -> Digested:
    """Make the new table. Raises: HeadwaterError if there is no row for it."""
    rows = Digested(answer.rows)
    database.make(connection, table)
    database.load(connection, table, rows)
    if not rows.count:
        raise HeadwaterError(
            f"{wanted.table} is empty; `{wanted.name}` stays as it was published",
            hint="see why the task before it wrote nothing",
        )
    database.add_key(connection, table, wanted.key)
    return rows

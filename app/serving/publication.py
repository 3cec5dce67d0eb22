"""Publishes a table of the lake in the serving database, in one transaction.

1. The table is read from Trino, at one Delta version.
2. Its rows are copied into a new table beside the published one.
3. The new table takes the old one's name, and a row of table `publications` describes it.

Whatever fails leaves the published table as it was: readers see the old rows or the new ones, never half of them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import trino.exceptions
from psycopg import sql

from app.errors import HeadwaterError
from app.query.trino_connection import connect, explain
from spark_streaming.storage.connections import TCP_LIMITS

READER = "reader"
PUBLICATIONS = "publications"
LOCK_WAIT = "30s"  # for readers of the old table, whose transactions must end

MAKE_PUBLICATIONS = f"""
CREATE TABLE IF NOT EXISTS {PUBLICATIONS} (
  name text PRIMARY KEY,
  source_table text NOT NULL,
  delta_version bigint,
  complete_lsn bigint,
  complete_to timestamptz,
  rows bigint NOT NULL,
  digest text NOT NULL,
  job text,
  run_id text,
  published_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON {PUBLICATIONS} TO {READER};
"""
_RECORD = f"""
INSERT INTO {PUBLICATIONS} AS known
  (name, source_table, delta_version, complete_lsn, complete_to, rows, digest, job, run_id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET
  source_table = excluded.source_table, delta_version = excluded.delta_version,
  complete_lsn = excluded.complete_lsn, complete_to = excluded.complete_to, rows = excluded.rows,
  digest = excluded.digest, job = excluded.job, run_id = excluded.run_id, published_at = now()
"""
# Trino's type, without its parameters → Postgres'.
_TYPES = {
    "boolean": "boolean", "tinyint": "smallint", "smallint": "smallint", "integer": "integer",
    "bigint": "bigint", "real": "real", "double": "double precision", "varchar": "text",
    "char": "text", "date": "date", "timestamp": "timestamp", "time": "time", "uuid": "uuid",
    "timestamp with time zone": "timestamptz", "varbinary": "bytea", "json": "jsonb",
}  # fmt: skip


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


def postgres_type(column: str, type_name: str) -> str:
    """Return Postgres' type for one of Trino's. Raises: HeadwaterError for a type without one."""
    if type_name.startswith("decimal("):
        return type_name.replace("decimal", "numeric")
    plain = re.sub(r"\(\d+\)", "", type_name)
    if plain not in _TYPES:
        raise HeadwaterError(
            f"column `{column}` cannot be published: it is {type_name}",
            hint=f"make it text: json_format(CAST({column} AS json))",
        )
    return _TYPES[plain]


def write(wanted: Publication, answer: Answer, progress: Progress, dsn: str) -> int:
    """Replace the published table. Returns: the number of its rows."""
    missing = sorted(set(wanted.key) - {name for name, _ in answer.columns})
    if missing:
        raise HeadwaterError(
            f"{wanted.table} has no column `{missing[0]}`, which is in the key",
            hint=f"its columns are {', '.join(name for name, _ in answer.columns)}",
        )
    types = [(name, postgres_type(name, kind)) for name, kind in answer.columns]
    beside, target = sql.Identifier(f"_new_{secrets.token_hex(8)}"), sql.Identifier(wanted.name)
    try:
        with psycopg.connect(dsn, **TCP_LIMITS, application_name="headwater publish") as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [wanted.name])
            connection.execute(MAKE_PUBLICATIONS)
            connection.execute(_create(beside, types))
            rows, digest = _copy(connection, beside, answer.rows)
            if not rows:
                raise HeadwaterError(
                    f"{wanted.table} is empty; `{wanted.name}` stays as it was published",
                    hint="see why the task before it wrote nothing",
                )
            if wanted.key:
                connection.execute(_key(beside, wanted.key))
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(target))
            connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(beside, target))
            connection.execute(sql.SQL(f"GRANT SELECT ON {{}} TO {READER}").format(target))
            connection.execute(
                _RECORD,
                [
                    wanted.name, wanted.table, answer.version, progress.lsn, progress.time, rows,
                    digest, wanted.job, wanted.run,
                ],
            )  # fmt: skip
            connection.execute(sql.SQL("ANALYZE {}").format(target))
    except (psycopg.errors.UniqueViolation, psycopg.errors.NotNullViolation) as error:
        raise HeadwaterError(
            f"`{', '.join(wanted.key)}` is no key of {wanted.table}", detail=_short(error)
        ) from error
    except psycopg.Error as error:
        raise HeadwaterError(
            f"`{wanted.name}` could not be published; it stays as it was",
            detail=_short(error),
            hint="./headwater status serving-db",
        ) from error
    return rows


def _short(error: psycopg.Error) -> str:
    return " ".join(filter(None, [str(error).strip().splitlines()[0], error.diag.message_detail]))


def _create(table: sql.Identifier, columns: Iterable[tuple[str, str]]) -> sql.Composed:
    parts = [sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in columns]
    return sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(parts))


def _key(table: sql.Identifier, key: Sequence[str]) -> sql.Composed:
    # Its index must not have the name of the old table's, which is still there.
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})").format(
        table,
        sql.Identifier(f"_key_{secrets.token_hex(8)}"),
        sql.SQL(", ").join(map(sql.Identifier, key)),
    )


def _copy(
    connection: psycopg.Connection[Any], table: sql.Identifier, rows: Iterable[Sequence[Any]]
) -> tuple[int, str]:
    """Copy rows. Returns: their number and a digest, which does not depend on their order."""
    count, total = 0, 0
    # FREEZE: to a transaction that began before, too, the new table is whole, not empty.
    statement = sql.SQL("COPY {} FROM STDIN WITH (FREEZE)").format(table)
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
            count += 1
            total += int.from_bytes(hashlib.sha256(repr(tuple(row)).encode()).digest()[:16], "big")
    return count, f"{total % (1 << 128):032x}"

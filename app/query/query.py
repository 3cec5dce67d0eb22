"""Runs one statement in Trino and prints its answer: `headwater sql`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TextIO

import trino.dbapi
import trino.exceptions

from app.environment import settings
from app.environment.trino_accounts import REGISTRAR, trino_url_of
from app.errors import HeadwaterError
from app.query.answer import (
    FORMATS,
    TABLE_ROWS_MAX,
    Column,
    Row,
    csv_lines,
    json_lines,
    read_columns,
    table_lines,
)
from app.query.statement import one_statement, shows_definition
from app.query.trino_connection import USER, connect, explain

INTERRUPTED = 130  # the exit code that a shell reports after Ctrl-C


def run_sql(
    statement: str,
    fmt: str = "table",
    *,
    url: str | None = None,
    person: tuple[str, str] | None = None,
) -> int:
    """Run one statement and print its answer.

    Args:
        statement: SQL with or without a closing semicolon; `silver` is the default schema.
        fmt: `table`, `csv` or `json`.
        url: Trino's address; None uses the stack's own.
        person: who signs in, and with which password; None: the stack itself.
    Returns: the exit code: 0, or 130 if Ctrl-C cancelled the query.
    Raises: HeadwaterError if Trino refuses the statement, or does not answer.
    """
    if fmt not in FORMATS:
        raise HeadwaterError(f"unknown format `{fmt}`", hint=f"known are {', '.join(FORMATS)}")
    sql = one_statement(statement)
    user = REGISTRAR if shows_definition(sql) else USER
    address = url or _address(user, person)
    connection = connect(address, user=user, legacy_primitive_types=True)
    cursor = connection.cursor()
    try:
        _print_answer(cursor, sql, fmt)
    except KeyboardInterrupt:
        _cancel(cursor)
        print("cancelled", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`); Python would report that again at exit.
        _cancel(cursor)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except HeadwaterError:
        raise
    except Exception as error:
        raise explain(error, address) from error
    finally:
        connection.close()
    return 0


def _address(user: str, person: tuple[str, str] | None) -> str:
    found = settings.load()
    if person is not None and not found.profile.signed:
        raise HeadwaterError(
            'this stack asks nobody for a password (`access = "open"`)',
            hint="leave --user out, or start it with ./headwater up --profile profiles/signed.toml",
        )
    if not found.profile.trino_here:
        return found.trino_url
    return trino_url_of(found, *person) if person else trino_url_of(found, user)


def _print_answer(cursor: trino.dbapi.Cursor, sql: str, fmt: str) -> None:
    started = time.monotonic()
    cursor.execute(sql)
    # The DBAPI description lacks the types of nested values; the protocol's columns have them.
    query = cursor._query
    done = cursor.update_type
    if done is not None or query is None or query.columns is None:
        count = f": {_rows(cursor.rowcount)}" if cursor.rowcount >= 0 else ""
        print(f"{done or 'done'}{count}", file=sys.stderr)
        return
    rows = _Counted(iter(cursor.fetchone, None))
    write(read_columns(query.columns), rows, fmt, sys.stdout)
    took_s = time.monotonic() - started
    print(f"{_rows(rows.count)} in {took_s:.2f} s", file=sys.stderr)


def write(columns: list[Column], rows: Iterable[Row], fmt: str, out: TextIO) -> None:
    """Write an answer in format `fmt`: CSV and JSON as rows arrive, a table at the end.

    A table ends after TABLE_ROWS_MAX rows, which a line on stderr says.
    """
    streaming: dict[str, Callable[..., Iterator[str]]] = {"csv": csv_lines, "json": json_lines}
    if fmt in streaming:
        for line in streaming[fmt](columns, rows):
            out.write(line + "\n")
        out.flush()
        return
    first = list(islice(rows, TABLE_ROWS_MAX + 1))
    for line in table_lines(columns, first[:TABLE_ROWS_MAX]):
        out.write(line + "\n")
    out.flush()
    if len(first) > TABLE_ROWS_MAX:
        print(f"only the first {TABLE_ROWS_MAX} rows are shown", file=sys.stderr)
        print("hint: `--format csv` and `--format json` print them all", file=sys.stderr)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


class _Counted:
    """Iterates over rows and counts them."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> Row:
        row = next(self._rows)
        self.count += 1
        return row


def _cancel(cursor: trino.dbapi.Cursor) -> None:
    try:
        cursor.cancel()
    except (trino.exceptions.Error, trino.exceptions.HttpError, OSError) as error:
        # Trino ends it anyway when no client fetches its rows (query.client.timeout).
        print(f"the query could not be cancelled: {error}", file=sys.stderr)

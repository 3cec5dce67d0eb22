"""`headwater sql`: one statement to Trino, its answer on standard output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TextIO

import trino.dbapi
import trino.exceptions

from app import settings
from app.errors import HeadwaterError
from app.lake.answer import (
    FORMATS,
    TABLE_ROWS_MAX,
    Column,
    Row,
    csv_lines,
    json_lines,
    read_columns,
    table_lines,
)
from app.lake.connection import connect, explain
from app.lake.statement import one_statement

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


def run_sql(statement: str, fmt: str = "table", *, url: str | None = None) -> int:
    """Run one statement and print its answer.

    Args:
        statement: SQL, a closing semicolon is fine; `silver` is the schema where none is named.
        fmt: `table`, `csv` or `json`.
        url: the Trino to ask; the one of this stack when None.
    Returns: the exit code: 0, or 130 where Ctrl-C cancelled the query.
    Raises: HeadwaterError for a statement that Trino refuses, and where no Trino answers.
    """
    if fmt not in FORMATS:
        raise HeadwaterError(f"unknown format `{fmt}`", hint=f"known are {', '.join(FORMATS)}")
    sql = one_statement(statement)
    address = url or settings.load().trino_url
    connection = connect(address, legacy_primitive_types=True)
    cursor = connection.cursor()
    try:
        _print_answer(cursor, sql, fmt)
    except KeyboardInterrupt:
        _cancel(cursor)
        print("cancelled", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain at exit about the rest.
        _cancel(cursor)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except HeadwaterError:
        raise
    except Exception as error:
        raise explain(error, address) from error
    finally:
        connection.close()
    return 0


def _print_answer(cursor: trino.dbapi.Cursor, sql: str, fmt: str) -> None:
    started = time.monotonic()
    cursor.execute(sql)
    # The DBAPI description drops the types of nested values; the protocol's columns have them.
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
    """Write an answer in format `fmt`; CSV and JSON as the rows come, a table when all are there.

    A table ends after TABLE_ROWS_MAX rows, and says so on standard error.
    """
    streaming: dict[str, Callable[..., Iterator[str]]] = {"csv": csv_lines, "json": json_lines}
    if fmt in streaming:
        for line in streaming[fmt](columns, rows):
            out.write(line + "\n")
        out.flush()
        return
    held = list(islice(rows, TABLE_ROWS_MAX + 1))
    for line in table_lines(columns, held[:TABLE_ROWS_MAX]):
        out.write(line + "\n")
    out.flush()
    if len(held) > TABLE_ROWS_MAX:
        print(f"only the first {TABLE_ROWS_MAX} rows are shown", file=sys.stderr)
        print("hint: `--format csv` and `--format json` print them all", file=sys.stderr)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


class _Counted:
    """Rows that count themselves as they pass."""

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
        # It ends anyway when nobody asks for its rows (query.client.timeout).
        print(f"the query could not be cancelled: {error}", file=sys.stderr)

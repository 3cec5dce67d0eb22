"""Runs the statements of a file on Trino, for a task of kind `sql`: `python -m app.jobs.kinds.sql_task FILE`.

The task reports the first row of the last answer. For a statement that writes, `rows` and
`rows_written` are the number of rows.
"""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import trino.dbapi

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.report import report
from app.query.statement import split_statements
from app.query.trino_connection import connect, explain


def run_statements(text: str, url: str) -> dict[str, Any]:
    """Run each statement. Returns: the values to report, from the last one. Raises: HeadwaterError."""
    values: dict[str, Any] = {}
    with closing(connect(url)) as connection:
        cursor = connection.cursor()
        for statement in split_statements(text):
            print(statement)
            try:
                values = _run(cursor, statement)
            except Exception as error:
                raise explain(error, url) from error
            finally:
                # For a query that was read to its end this sends no request.
                cursor.cancel()
            print(f"-- {values}")
    return values


def _run(cursor: trino.dbapi.Cursor, statement: str) -> dict[str, Any]:
    cursor.execute(statement)
    if cursor.update_type is not None:
        cursor.fetchall()  # it is complete when its answer has been read
        count = max(cursor.rowcount, 0)
        return {"rows": count, "rows_written": count}
    row = cursor.fetchone()
    if row is None:
        return {}
    names = [column[0] for column in cursor.description]
    return {name: _plain(value) for name, value in zip(names, row, strict=True)}


def _plain(value: Any) -> bool | int | float | str | None:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(f"stopped by signal {number}")  # the query is cancelled on exit


def main(arguments: list[str]) -> int:
    """Run the file. Returns: the exit code."""
    signal.signal(signal.SIGTERM, _end)
    try:
        report(**run_statements(Path(arguments[0]).read_text(encoding="utf-8"), load().trino_url))
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs the statements of a file on Trino, for a task of kind `sql`: `python -m app.jobs.kinds.sql_task FILE`.

The task reports the first row of the last answer. For a statement that writes, `rows` and
`rows_written` are the number of rows.

Trino continues a query for minutes after its client was killed. So an attempt first ends the query that an earlier
attempt of the same task left running, and waits for its end: two attempts never write at once.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import trino.dbapi
import trino.exceptions

from app.environment.settings import load
from app.errors import HeadwaterError
from app.jobs.report import report
from app.jobs.run_records import RUN_FOLDER, TASK
from app.query.statement import split_statements
from app.query.trino_connection import connect, explain

END_WAIT_S = 60.0
LEFT = "SELECT query_id FROM system.runtime.queries WHERE source = ? AND state NOT IN ('FINISHED', 'FAILED')"
# CALL takes no parameters; an id has letters, digits and underscores only.
KILL = "CALL system.runtime.kill_query('{query}', 'its task was killed, and runs again')"
OVER = ("NOT_FOUND", "NOT_SUPPORTED")  # Trino's errors if the query has already ended


def source_of_task() -> str:
    """Return the name that the task's queries have in Trino: the same for each attempt, no other stack's."""
    runs = Path(os.environ.get(RUN_FOLDER, "")).parent
    stack = hashlib.sha256(str(runs).encode()).hexdigest()[:8]
    return f"headwater-job-{stack}-{os.environ.get(TASK, '')}"


def end_earlier_queries(url: str, source: str) -> None:
    """Kill the queries that an earlier attempt left running, and wait for their end. Raises: HeadwaterError."""
    give_up = time.monotonic() + END_WAIT_S
    with closing(connect(url)) as connection:
        cursor = connection.cursor()
        while True:
            try:
                found = [query for (query,) in cursor.execute(LEFT, [source]).fetchall()]
            except Exception as error:
                raise explain(error, url) from error
            if not found:
                return
            if time.monotonic() > give_up:
                raise HeadwaterError(
                    f"an earlier attempt's query still runs after {END_WAIT_S:g} s: {found[0]}",
                    hint=f"end it: headwater sql \"CALL system.runtime.kill_query('{found[0]}')\"",
                )
            for query in found:
                print(f"-- ending {query}, which an earlier attempt left running")
                _kill(cursor, query, url)
            time.sleep(1)


def _kill(cursor: trino.dbapi.Cursor, query: str, url: str) -> None:
    try:
        cursor.execute(KILL.format(query=query)).fetchall()
    except trino.exceptions.TrinoQueryError as error:
        if error.error_name not in OVER:
            raise explain(error, url) from error


def run_statements(text: str, url: str, source: str) -> dict[str, Any]:
    """Run each statement. Returns: the values to report, from the last one. Raises: HeadwaterError."""
    end_earlier_queries(url, source)
    values: dict[str, Any] = {}
    with closing(connect(url, source=source)) as connection:
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
        text = Path(arguments[0]).read_text(encoding="utf-8")
        report(**run_statements(text, load().trino_url, source_of_task()))
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

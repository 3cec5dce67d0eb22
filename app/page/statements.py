"""Runs SQL as a user typed it on the source, within limits of time and rows that it cannot change."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq

from app.page.answers import ROWS_MAX, Refused, cell_of

# The limit for all statements of a request together, whatever time-outs they set themselves.
RUN_S_MAX = 20.0
CANCEL_S = 2.0
CANCELLED = "57014"
ROWS_READ_MAX = 100_000
_FIELDS = {
    "message": pq.DiagnosticField.MESSAGE_PRIMARY,
    "severity": pq.DiagnosticField.SEVERITY,
    "sqlstate": pq.DiagnosticField.SQLSTATE,
    "detail": pq.DiagnosticField.MESSAGE_DETAIL,
    "hint": pq.DiagnosticField.MESSAGE_HINT,
    "position": pq.DiagnosticField.STATEMENT_POSITION,
    "context": pq.DiagnosticField.CONTEXT,
    "constraint": pq.DiagnosticField.CONSTRAINT_NAME,
}


def run_statements(
    connection: psycopg.Connection[Any], text: str, *, within_s: float = RUN_S_MAX
) -> list[dict[str, Any]]:
    """Run statements; for each return `columns`, `rows` (texts, at most ROWS_MAX), `count` and `done`.

    Several statements are one transaction, unless they say otherwise.
    Raises: Refused with the database's message, or because the statements were cancelled: together
    they
        took longer than `within_s` seconds, or one had more than ROWS_READ_MAX rows.
    """
    return _Run(connection, within_s).answers(text)


class _Run:
    """Runs one request's statements on a session of their own."""

    def __init__(self, connection: psycopg.Connection[Any], within_s: float) -> None:
        self._connection = connection
        self._wire: Any = connection.pgconn
        self._within_s = within_s
        self._deadline = time.monotonic() + within_s
        self._why_ended: dict[str, str] = {}  # the error to report after a cancel

    def answers(self, text: str) -> list[dict[str, Any]]:
        wire = self._wire
        wire.send_query(text.encode())
        # Rows are read one by one, so that a large answer is never in memory.
        wire.set_single_row_mode()
        try:
            while wire.flush():
                self._await(writable=True)
            return list(self._read())
        finally:
            if wire.transaction_status == pq.TransactionStatus.ACTIVE:
                # A statement can ignore a cancel. Its session is closed, because the role may have
                # only a few.
                wire.finish()

    def _read(self) -> Iterator[dict[str, Any]]:
        answer: dict[str, Any] = {}
        failure: Refused | None = None
        while (result := self._next()) is not None:
            status = result.status
            if status == pq.ExecStatus.FATAL_ERROR:
                failure = self._failure(result)
            elif status in (pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_OK):
                if not answer:
                    names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
                    answer = {"columns": names, "rows": [], "count": 0}
                self._add_rows(result, answer)
                if status == pq.ExecStatus.TUPLES_OK:
                    yield {**answer, "done": (result.command_status or b"").decode()}
                    answer = {}
            elif status == pq.ExecStatus.COMMAND_OK:
                yield {"done": (result.command_status or b"").decode()}
            elif status != pq.ExecStatus.EMPTY_QUERY:
                self._wire.finish()
                message = (
                    "COPY does not work here, because the page cannot send or receive its data"
                )
                raise Refused(422, message=message)
        if failure is not None:
            raise failure

    def _next(self) -> Any:
        while self._wire.is_busy():
            self._await()
        return self._wire.get_result()

    def _await(self, *, writable: bool = False) -> None:
        """Wait for the server; libpq's own waiting would block the other threads."""
        left = self._deadline - time.monotonic()
        writers = [self._wire.socket] if writable else []
        readable, may_write, _ = select.select([self._wire.socket], writers, [], max(left, 0))
        if readable:
            self._wire.consume_input()
        elif not may_write:
            self._end(f"the statements took longer than {self._within_s:g} s")

    def _end(self, message: str, **more: str) -> None:
        """Cancel the running statement; its answer says whether the cancel came in time.

        Raises: Refused if a cancel was sent before and nothing was answered.
        """
        if self._why_ended:
            raise Refused(
                422,
                message=f"{message}, and continue after a cancel; the session was left",
                hint="read the rows to see what was committed",
            )
        self._why_ended = {"message": f"{message} and were ended", **more}
        self._deadline = time.monotonic() + CANCEL_S
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=CANCEL_S)

    def _failure(self, result: Any) -> Refused:
        facts = {name: result.error_field(part) for name, part in _FIELDS.items()}
        words = {name: value.decode() if value else None for name, value in facts.items()}
        if self._why_ended and words["sqlstate"] == CANCELLED:
            return Refused(422, **self._why_ended)
        return Refused(422, **words)

    def _add_rows(self, result: Any, answer: dict[str, Any]) -> None:
        for row in range(result.ntuples):
            answer["count"] += 1
            if answer["count"] == ROWS_READ_MAX + 1 and not self._why_ended:
                self._end(
                    f"the statements had more than {ROWS_READ_MAX:,} rows", hint="add a LIMIT"
                )
            if answer["count"] <= ROWS_MAX:
                values = [result.get_value(row, column) for column in range(result.nfields)]
                texts = [None if v is None else v.decode(errors="replace") for v in values]
                answer["rows"].append([cell_of(text)[0] for text in texts])

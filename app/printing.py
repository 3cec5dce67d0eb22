"""Prints data as a table, CSV or JSON on stdout, and progress on stderr.

Use `Format` with `app.cli.options.FORMAT_OPTION` in a command, and `print_rows` or `print_object`
for its data.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, TextIO

WAITING_LINE_EVERY_S = 5.0
SINCE_SHOWN_S = 2.0  # a shorter wait is shown without seconds
RENEW_S = 0.5


class Format(str, Enum):
    """`table` for people, `csv` and `json` for machines."""

    table = "table"
    csv = "csv"
    json = "json"


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    fmt: Format | str = Format.table,
    *,
    out: TextIO | None = None,
) -> None:
    """Print rows on stdout.

    json: one array of objects, keys in column order, decimals as text so that no digit is lost.
    csv: a header line; NULL is an empty field. table: NULL is shown as `NULL`.
    """
    target = out or sys.stdout
    kind = Format(fmt)
    if kind is Format.json:
        objects = [dict(zip(columns, map(_json_value, row), strict=True)) for row in rows]
        target.write(json.dumps(objects, ensure_ascii=False, default=str) + "\n")
    elif kind is Format.csv:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_value(value) for value in row] for row in rows)
    else:
        _print_table(columns, list(rows), target)


def print_object(
    values: Mapping[str, Any], fmt: Format | str, *, out: TextIO | None = None
) -> None:
    """Print one flat object: as two columns `name`, `value`, or as one JSON object."""
    if Format(fmt) is Format.json:
        found = {name: _json_value(value) for name, value in values.items()}
        (out or sys.stdout).write(json.dumps(found, ensure_ascii=False, default=str) + "\n")
    else:
        print_rows(["name", "value"], values.items(), fmt, out=out)


def _print_table(columns: Sequence[str], rows: list[Sequence[Any]], target: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = target.isatty()
    # Values are cut to a terminal's width only: a pipe gets them whole.
    console = Console(file=target, width=None if terminal else 100_000, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numeric = [
        any(row[i] is not None for row in rows)
        and all(row[i] is None or _is_number(row[i]) for row in rows)
        for i in range(len(columns))
    ]
    for name, number in zip(columns, numeric, strict=True):
        table.add_column(
            Text(name),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=not terminal,
        )
    for row in rows:
        table.add_row(*(Text(_table_value(value)) for value in row))
    console.print(table)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _table_value(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict, tuple)):
        return json.dumps(_json_value(value), ensure_ascii=False, default=str)
    return _text(value)


def _csv_value(value: Any) -> str:
    return "" if value is None else _table_value(value)


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else value.isoformat()
    return str(value)


class Steps:
    """Progress of a long command on stderr: a line for each event, and the current reason of a wait.

    A thread shows the reason and the time of a wait, even while the command is in one call: on a terminal in one
    rewritten line, otherwise every WAITING_LINE_EVERY_S.
    Use it as a context manager.
    """

    def __init__(
        self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._printed_at = clock()
        self._text = ""
        self._since = clock()
        self._status: Any = None
        self._console: Any = None
        self._lock = threading.RLock()
        self._ended = threading.Event()

    def __enter__(self) -> Steps:
        if self._out.isatty():
            from rich.console import Console

            self._console = Console(file=self._out, highlight=False)
        threading.Thread(target=self._renew, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.rest()

    def note(self, text: str) -> None:
        """Print one line that stays."""
        with self._lock:
            if self._console is not None:
                self._console.print(text, markup=False)
            else:
                print(text, file=self._out, flush=True)
            self._printed_at = self._clock()

    def waiting(self, text: str) -> None:
        """Show the reason of the wait; replaces the previous text."""
        with self._lock:
            if text != self._text:
                self._text, self._since = text, self._clock()
            self.renew()

    def renew(self) -> None:
        """Show the reason of the wait again, with the seconds so far, if it is due."""
        with self._lock:
            if not self._text:
                return
            waited_s = self._clock() - self._since
            text = self._text + (f" ({waited_s:.0f} s)" if waited_s >= SINCE_SHOWN_S else "")
            if self._console is not None:
                self._show(text)
            elif self._clock() - self._printed_at >= WAITING_LINE_EVERY_S:
                self.note(text)

    def rest(self) -> None:
        """Remove the waiting line."""
        with self._lock:
            self._text = ""
            if self._status is not None:
                self._status.stop()
                self._status = None

    def _show(self, text: str) -> None:
        from rich.markup import escape

        shown = escape(text[: max(20, self._console.width - 4)])
        if self._status is None:
            self._status = self._console.status(shown)
            self._status.start()
        else:
            self._status.update(shown)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            self.renew()


def duration(seconds: float, *, compact: bool = False) -> str:
    """Seconds in their two largest units: `42 s`, `3 min 20 s`, `2 d 5 h`; compact: `5m 10s`."""
    units = [("d", 86_400), ("h", 3_600), ("m" if compact else "min", 60), ("s", 1)]
    left = round(seconds)
    first = next((i for i, (_, size) in enumerate(units) if left >= size), len(units) - 1)
    parts = []
    for name, size in units[first : first + 2]:
        count, left = divmod(left, size)
        parts.append(f"{count}{name}" if compact else f"{count} {name}")
    return " ".join(parts)

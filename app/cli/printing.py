"""How data is printed: a table, CSV or JSON on stdout; and progress on stderr.

Use `Format` with `FORMAT_OPTION` in a command, and `print_rows` or `print_object` for its data.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from types import TracebackType
from typing import Any, TextIO

import typer

WAITING_LINE_EVERY_S = 15.0


class Format(str, Enum):
    """`table` for people, `csv` and `json` for machines."""

    table = "table"
    csv = "csv"
    json = "json"


FORMAT_OPTION = typer.Option(Format.table, "--format", "-F", help="How to print it.")


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
        found = [dict(zip(columns, map(_json_value, row), strict=True)) for row in rows]
        target.write(json.dumps(found, ensure_ascii=False, default=str) + "\n")
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
    # Not cut to a width where nobody looks: a pipe gets the whole value.
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
    """Progress of a long command on stderr: a line for each event, and what is waited for now.

    On a terminal that is one line that changes; elsewhere a line now and then. Use it as a
    context manager.
    """

    def __init__(
        self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._said = clock()
        self._status: Any = None
        self._console: Any = None

    def __enter__(self) -> Steps:
        if self._out.isatty():
            from rich.console import Console

            self._console = Console(file=self._out, highlight=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.rest()

    def note(self, text: str) -> None:
        """Print one line that stays."""
        if self._console is not None:
            self._console.print(text, markup=False)
        else:
            print(text, file=self._out, flush=True)
        self._said = self._clock()

    def waiting(self, text: str) -> None:
        """Show what is waited for, in place of the last such text."""
        if self._console is None:
            if self._clock() - self._said >= WAITING_LINE_EVERY_S:
                self.note(text)
            return
        from rich.markup import escape

        shown = escape(text[: max(20, self._console.width - 4)])
        if self._status is None:
            self._status = self._console.status(shown)
            self._status.start()
        else:
            self._status.update(shown)

    def rest(self) -> None:
        """Take the waiting line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

"""Reads the rows of a file, each with its number, as values that a contract can check.

A CSV file has a header; each JSON line has an object; Parquet has columns. A line that cannot be read is a
reject, like a row that breaks its contract; a file that cannot be read at all is an error.
"""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import gzip
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import HeadwaterError
from spark_streaming.streams.stream_contract import StreamColumn
from spark_streaming.streams.stream_event import Refused

SUFFIXES = {
    "csv": (".csv", ".csv.gz"),
    "jsonl": (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    "parquet": (".parquet",),
}
LINE_CHARS_MAX = 1 << 20
ROWS_AT_ONCE = 5_000
RAW_CHARS_MAX = 4_096
_TRUE, _FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no")


class Row(NamedTuple):
    """A row of a file: its values, or why it has none. `raw`: the row's text in the file, shortened."""

    line: int
    values: Mapping[str, object]
    refused: Refused | None
    raw: str


def rows_of(path: Path, fmt: str, columns: Mapping[str, StreamColumn]) -> Iterator[Row]:
    """Yield the rows of a file, from 1.

    Args:
        fmt: csv, jsonl or parquet. path: a local copy with the extension of the file's name.
    Raises: HeadwaterError if it is not a file of its format.
    """
    readers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    try:
        yield from readers[fmt](path, columns)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error, pa.ArrowInvalid) as error:
        raise HeadwaterError(
            f"the file is not valid {fmt}",
            detail=f"{type(error).__name__}: {error}",
            hint="text must be UTF-8, and a CSV file needs a header; does `format` fit the files?",
        ) from error


def _text(path: Path) -> io.TextIOBase:
    opening: Any = gzip.open if path.name.endswith(".gz") else io.open
    found: io.TextIOBase = opening(path, "rt", encoding="utf-8-sig", newline="")
    return found


def _csv(path: Path, columns: Mapping[str, StreamColumn]) -> Iterator[Row]:
    with _text(path) as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) < len(header):
            raise csv.Error(f"the header has a column twice: {','.join(header)}")
        for number, cells in enumerate(reader, start=1):
            raw = _raw(",".join(cells))
            if len(cells) != len(header):
                why = f"{len(cells)} fields; the header has {len(header)}"
                yield Row(number, {}, Refused("not-a-row", why), raw)
                continue
            try:
                values = {
                    name: _parsed(cell, columns.get(name))
                    for name, cell in zip(header, cells, strict=True)
                }
            except Refused as refused:
                yield Row(number, {}, refused, raw)
            else:
                yield Row(number, values, None, raw)


def _parsed(cell: str, column: StreamColumn | None) -> object:
    """Return a CSV cell's value; an empty cell is NULL, or "" if a text column must not be NULL."""
    if column is None:
        return cell
    if cell == "":
        return "" if column.type == "text" and column.not_null else None
    try:
        if column.type == "int64":
            return int(cell)
        if column.type == "float64":
            return float(cell)
        if column.type == "json":
            return orjson.loads(cell)
    except ValueError:
        raise Refused("breaks-contract", f"`{_raw(cell)}` is no {column.type}") from None
    if column.type == "bool" and cell.lower() in (*_TRUE, *_FALSE):
        return cell.lower() in _TRUE
    return cell


def _jsonl(path: Path, columns: Mapping[str, StreamColumn]) -> Iterator[Row]:
    with _text(path) as file:
        number = 0
        while line := file.readline(LINE_CHARS_MAX):
            number += 1
            if not line.endswith("\n") and len(line) == LINE_CHARS_MAX:
                while more := file.readline(LINE_CHARS_MAX):  # the rest of the line
                    if more.endswith("\n"):
                        break
                why = f"the line has more than {LINE_CHARS_MAX} characters"
                yield Row(number, {}, Refused("too-large", why), _raw(line))
            elif line.strip():
                yield _object(number, line)


def _object(number: int, line: str) -> Row:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Row(number, {}, Refused("not-json", f"the line is not JSON: {error}"), _raw(line))
    if not isinstance(values, dict):
        return Row(number, {}, Refused("not-a-row", "the line is not an object"), _raw(line))
    return Row(number, values, None, _raw(line))


def _parquet(path: Path, columns: Mapping[str, StreamColumn]) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            for values in batch.to_pylist():
                number += 1
                plain = {name: _plain(value) for name, value in values.items()}
                yield Row(number, plain, None, _raw(str(values)))


def _plain(value: object) -> object:
    """Return a Parquet value in its JSON form."""
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=dt.timezone.utc)).isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value


def _raw(text: str) -> str:
    return text.rstrip("\r\n")[:RAW_CHARS_MAX]

"""Rows of files: each has its number, and an invalid one the reason."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import HeadwaterError
from app.jobs.load.file_rows import LINE_CHARS_MAX, Row, rows_of
from spark_streaming.streams.stream_contract import StreamColumn
from spark_streaming.streams.stream_event import ColumnJudge

COLUMNS = {
    "id": StreamColumn(type="int64", not_null=True),
    "name": StreamColumn(type="text", not_null=True),
    "share": StreamColumn(type="float64"),
    "known": StreamColumn(type="bool"),
    "at": StreamColumn(type="timestamptz"),
    "more": StreamColumn(type="json"),
}


def read(path: Path, fmt: str) -> list[Row]:
    return list(rows_of(path, fmt, COLUMNS))


def refusals(rows: list[Row]) -> dict[int, tuple[str, str]]:
    return {row.line: (row.refused.rule, row.refused.reason) for row in rows if row.refused}


def test_cells_of_csv_become_values_of_their_columns_and_empty_ones_null(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "\ufeffid,name,share,known,at,more\r\n"
        '7,"a, ""b""\nc",0.5,TRUE,2026-01-31T12:00:00Z,"{""x"": 1}"\r\n'
        "9223372036854775808,,,no,,\r\n"
    )
    one, two = read(path, "csv")
    assert dict(one.values) == {
        "id": 7,
        "name": 'a, "b"\nc',
        "share": 0.5,
        "known": True,
        "at": "2026-01-31T12:00:00Z",
        "more": {"x": 1},
    }
    assert dict(two.values) == {
        "id": 2**63,
        "name": "",
        "share": None,
        "known": False,
        "at": None,
        "more": None,
    }
    judged = ColumnJudge("row", COLUMNS).values(one.values)
    assert judged["at"] == dt.datetime(2026, 1, 31, 12, tzinfo=dt.timezone.utc)
    assert judged["more"] == '{"x":1}'


def test_a_line_of_csv_with_other_fields_or_a_wrong_number_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"id,name\n1,a\n2\nx,c\n4,d\n"))
    rows = read(path, "csv")
    assert [row.line for row in rows if not row.refused] == [1, 4]
    assert refusals(rows) == {
        2: ("not-a-row", "1 fields; the header has 2"),
        3: ("breaks-contract", "`x` is no int64"),
    }
    assert rows[2].raw == "x,c"


def test_lines_that_are_no_objects_or_too_long_are_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = '{"id": 1, "name": "' + "x" * LINE_CHARS_MAX + '"}'
    path.write_text(f'{{"id": 1}}\n\n[1]\n{{"id": \n{long}\n{{"id": 2}}')
    rows = read(path, "jsonl")
    assert [(row.line, dict(row.values)) for row in rows if not row.refused] == [
        (1, {"id": 1}),
        (6, {"id": 2}),
    ]
    assert {line: rule for line, (rule, _) in refusals(rows).items()} == {
        3: "not-a-row",
        4: "not-json",
        5: "too-large",
    }
    assert max(len(row.raw) for row in rows) <= 4_096


def test_values_of_parquet_are_judged_as_those_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    at = dt.datetime(2026, 1, 2, 3, 4, 5)
    pq.write_table(pa.table({"id": pa.array([1, 2]), "name": ["a", None], "at": [at, None]}), path)
    one, two = read(path, "parquet")
    assert dict(one.values) == {"id": 1, "name": "a", "at": "2026-01-02T03:04:05+00:00"}
    assert (two.line, two.values["name"]) == (2, None)


@pytest.mark.parametrize(
    ("name", "fmt", "content"),
    [
        ("a.csv", "csv", b"id,name\n1,\xff\n"),
        ("a.csv", "csv", b"id,id\n1,2\n"),
        ("a.csv.gz", "csv", b"id,name\n"),
        ("a.jsonl.gz", "jsonl", gzip.compress(b'{"id": 1}\n')[:-9]),
        ("a.parquet", "parquet", b"PAR1 and no more"),
    ],
    ids=["not UTF-8", "a name twice", "not gzip", "cut gzip", "not Parquet"],
)
def test_a_file_of_another_format_is_one_error(
    tmp_path: Path, name: str, fmt: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HeadwaterError, match=f"the file is not valid {fmt}"):
        read(path, fmt)
    (tmp_path / "empty.csv").write_bytes(b"")
    assert read(tmp_path / "empty.csv", "csv") == []

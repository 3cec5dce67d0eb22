"""Answers as text: exact for every type, in each format."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from app.query.answer import (
    CELL_CHARS_MAX,
    Column,
    Type,
    csv_lines,
    json_lines,
    json_text,
    read_columns,
    table_lines,
)

VARCHAR, BIGINT, DECIMAL = Type("varchar"), Type("bigint"), Type("decimal")


def _json(columns: list[Column], rows: list[list[Any]]) -> Any:
    return json.loads("\n".join(json_lines(columns, rows)))


def test_a_decimal_in_json_is_text_with_all_its_digits() -> None:
    digits = "12345678901234567890123456.123456789012"
    assert _json([Column("d", DECIMAL)], [[digits]]) == [{"d": digits}]


def test_json_of_no_rows_is_an_empty_array() -> None:
    assert _json([Column("d", DECIMAL)], []) == []


def test_json_has_one_row_a_line() -> None:
    lines = list(json_lines([Column("a", BIGINT)], [[1], [2]]))
    assert lines == ['[{"a": 1}', ' ,{"a": 2}', "]"]


def test_json_keeps_null_empty_text_and_unusual_floats_apart() -> None:
    columns = [Column("a"), Column("b"), Column("c", Type("double"))]
    assert _json(columns, [[None, "", "NaN"]]) == [{"a": None, "b": "", "c": "NaN"}]


def test_nested_values_become_nested_json() -> None:
    row = Type("row", (VARCHAR, DECIMAL), ("title", "price"))
    of = Type("map", (VARCHAR, Type("array", (row,))))
    assert json_text({"a": [["Alien", "9.90"], None]}, of) == (
        '{"a": [{"title": "Alien", "price": "9.90"}, null]}'
    )


def test_a_row_without_names_becomes_a_list() -> None:
    assert json_text([1, "x"], Type("row", (BIGINT, VARCHAR))) == '[1, "x"]'


def test_a_json_column_is_embedded_as_it_is() -> None:
    assert json_text('{"n": 1.10}', Type("json")) == '{"n": 1.10}'


@pytest.mark.parametrize("name", ["timestamp with time zone", "time with time zone"])
def test_utc_is_written_as_an_offset(name: str) -> None:
    value = "2026-11-21 10:00:00.000 UTC"
    assert json_text(value, Type(name)) == '"2026-11-21 10:00:00.000+00:00"'
    assert json_text(value, VARCHAR) == f'"{value}"'


def test_csv_survives_commas_quotes_and_line_ends() -> None:
    value = 'a,"b"\r\nc'
    lines = "\r\n".join(csv_lines([Column("x"), Column("y")], [[value, "z"]]))
    assert list(csv.reader(io.StringIO(lines, newline=""))) == [["x", "y"], [value, "z"]]


def test_csv_tells_null_from_an_empty_text() -> None:
    assert list(csv_lines([Column("x"), Column("y")], [[None, ""]])) == ["x,y", ',""']


def test_a_table_aligns_numbers_right_and_spells_null_out() -> None:
    columns = [Column("title"), Column("price", DECIMAL)]
    lines = list(table_lines(columns, [["Alien", "9.90"], [None, "10.00"]]))
    assert lines == [
        "title  price",
        "-----  -----",
        "Alien   9.90",
        "NULL   10.00",
    ]


def test_a_table_cuts_long_cells_and_shows_control_characters() -> None:
    [_, _, line, escaped] = table_lines([Column("x")], [["a" * 500], ["a\tb\x1b[31m"]])
    assert len(line) == CELL_CHARS_MAX
    assert line.endswith("…")
    assert escaped == "a\\tb\\x1b[31m"


def test_a_lone_text_of_several_lines_is_shown_as_it_is() -> None:
    assert list(table_lines([Column("Query Plan")], [["a\n  b"]])) == ["a", "  b"]


def test_a_column_name_that_comes_again_is_numbered() -> None:
    signature = {"rawType": "bigint", "arguments": []}
    columns = read_columns([{"name": "a", "typeSignature": signature}] * 3)
    assert [column.name for column in columns] == ["a", "a_2", "a_3"]


def test_type_signatures_are_read_with_their_parts() -> None:
    signature = {
        "rawType": "row",
        "arguments": [
            {
                "kind": "NAMED_TYPE",
                "value": {
                    "fieldName": {"name": "prices"},
                    "typeSignature": {
                        "rawType": "array",
                        "arguments": [
                            {"kind": "TYPE", "value": {"rawType": "decimal", "arguments": []}}
                        ],
                    },
                },
            }
        ],
    }
    assert Type.from_signature(signature) == Type(
        "row", (Type("array", (Type("decimal"),)),), ("prices",)
    )

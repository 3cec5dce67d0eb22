"""Rules that look up other rows, with Delta tables on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from spark_streaming.fold.keyed import Folded
from spark_streaming.rules.lookup_rules import reference_findings, uniqueness_findings
from spark_streaming.rules.row_judge import Finding
from spark_streaming.rules.rules import Reference, TableRules, Uniqueness


def folded(columns: dict[str, Any], ops: str, keep: list[bool] | None = None) -> Folded:
    rows = pa.table(columns)
    rows = rows.append_column("_lsn", pa.array(range(len(rows)), pa.int64()))
    rows = rows.append_column("_op", pa.array(list(ops), pa.string()))
    if keep is not None:
        rows = rows.append_column("_keep_a", pa.array(keep))
    return Folded(rows)


def delta(folder: Path, columns: dict[str, Any]) -> DeltaTable:
    write_deltalake(str(folder), pa.table(columns))
    return DeltaTable(str(folder))


def numbers(found: list[Finding]) -> list[list[int]]:
    return [sorted(finding.rows) for finding in found]


@pytest.mark.parametrize(
    ("child", "parent", "values"),
    [
        (pa.int32(), pa.int64(), [1, 2, 9]),
        (pa.int64(), pa.int16(), [1, 2, 9]),
        (pa.string(), pa.string(), ["a", "b", "x"]),
        (pa.date32(), pa.date32(), [1, 2, 9]),
    ],
)
def test_reference_compares_values_of_types_that_may_differ(
    tmp_path: Path, child: pa.DataType, parent: pa.DataType, values: list[Any]
) -> None:
    table = delta(tmp_path, {"id": pa.array(values[:2], parent)})
    rows = folded({"a": pa.array([*values, None, values[2]], child)}, "uuuud")
    rules = TableRules("s", "t", references=(Reference("r", "warn", "a", "s", "p", "id"),))
    assert numbers(reference_findings(rows, rules, lambda *_: table, lambda *_: None)) == [[2]]


def test_reference_to_a_table_or_column_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    table = delta(tmp_path, {"id": [1]})
    rows = folded({"a": [9]}, "u")
    rules = TableRules("s", "t", references=(Reference("r", "warn", "a", "s", "p", "gone"),))
    assert reference_findings(rows, rules, lambda *_: table, lambda *_: None) == []
    assert reference_findings(rows, rules, lambda *_: None, lambda *_: None) == []


def test_rows_of_this_batch_count_for_a_reference_but_its_deletes_do_not(tmp_path: Path) -> None:
    table = delta(tmp_path, {"id": [1]})
    batch = folded({"id": [2, 3]}, "ud").rows
    rows = folded({"a": [1, 2, 3]}, "uuu")
    rules = TableRules("s", "t", references=(Reference("r", "warn", "a", "s", "p", "id"),))
    assert numbers(reference_findings(rows, rules, lambda *_: table, lambda *_: batch)) == [[2]]


def test_value_that_an_event_left_out_is_not_looked_up(tmp_path: Path) -> None:
    table = delta(tmp_path, {"id": [1], "a": ["x"]})
    rows = folded({"id": [2, 3], "a": ["x", "x"]}, "uu", keep=[True, False])
    rules = TableRules("s", "t", uniques=(Uniqueness("u", "warn", ("a",)),))
    assert numbers(uniqueness_findings(rows, ("id",), rules, table)) == [[1]]


def test_uniqueness_over_two_columns_lets_each_alone_repeat(tmp_path: Path) -> None:
    table = delta(tmp_path, {"id": [1, 2], "a": ["x", "y"], "b": [1, 2]})
    rows = folded({"id": [3, 4, 5, 6], "a": ["x", "x", "y", None], "b": [2, 1, 1, 1]}, "uuuu")
    rules = TableRules("s", "t", uniques=(Uniqueness("u", "warn", ("a", "b")),))
    assert numbers(uniqueness_findings(rows, ("id",), rules, table)) == [[1]]


def test_row_that_this_batch_deletes_is_no_double(tmp_path: Path) -> None:
    table = delta(tmp_path, {"id": [1, 2], "a": ["x", "y"]})
    rows = folded({"id": [1, 3], "a": [None, "x"]}, "du")
    rules = TableRules("s", "t", uniques=(Uniqueness("u", "warn", ("a",)),))
    assert uniqueness_findings(rows, ("id",), rules, table) == []

"""Masks: the values that replace others in silver, and that verify expects."""

from __future__ import annotations

import hashlib
import hmac

import pyarrow as pa

from spark_streaming.contract.canonical import canonical_row
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.masks import (
    HIDDEN,
    expected_in_silver,
    masked_column,
    partial,
    treated,
)
from spark_streaming.contract.types import Column

SECRET = b"a secret"


def column(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind or pa.string())])


def test_hash_is_keyed_and_equal_values_stay_equal() -> None:
    values = masked_column(column(["ö", None, "b", "ö"]), "hash", SECRET).to_pylist()
    assert values[0] == values[3] == hmac.new(SECRET, "ö".encode(), hashlib.sha256).hexdigest()
    assert values[1] is None
    assert values[2] not in (None, values[0])
    assert masked_column(column(["ö"]), "hash", b"other").to_pylist() != values[:1]


def test_partial_keeps_what_is_said_and_no_more() -> None:
    assert partial("ada@example.com") == "a***@example.com"
    assert partial("4111111111111111") == "***1111"
    assert partial("1234567") == HIDDEN
    assert partial("@home") == HIDDEN
    assert partial("") == HIDDEN


def test_redact_leaves_null_where_a_type_has_no_text() -> None:
    assert masked_column(column(["a", None]), "redact", SECRET).to_pylist() == [HIDDEN, None]
    masked = masked_column(column([1, None], pa.int64()), "redact", SECRET)
    assert masked.type == pa.int64()
    assert masked.to_pylist() == [None, None]


def test_rules_see_the_value_and_silver_sees_its_mask() -> None:
    rows = pa.table({"a": ["x@y", "", None], "b": ["", "k", None]})
    plain, masked = treated(rows, ["a"], {"a": "partial"}, SECRET)
    assert plain["a"].to_pylist() == ["x@y", None, None]
    assert masked["a"].to_pylist() == ["x***@y", None, None]
    assert masked["b"].to_pylist() == ["", "k", None], "not declared: kept"
    assert masked.schema == rows.schema


def test_verify_expects_in_silver_exactly_what_masking_writes() -> None:
    contract = Contract(
        "public",
        "people",
        (
            Column("id", "int", "int32"),
            Column("mail", "text", "text"),
            Column("code", "text", "text"),
            Column("born", "date", "date"),
            Column("note", "text", "text"),
        ),
        ("id",),
    )
    empty, masks = ["mail", "note"], {"mail": "hash", "code": "partial", "born": "redact"}
    rows = pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int32()),
            "mail": ["a@b", "", None],
            "code": ["12345678", "x", None],
            "born": pa.array([0, None, 5], pa.date32()),
            "note": ["", "n", None],
        }
    )
    _, masked = treated(rows, empty, masks, SECRET)
    expect = expected_in_silver(contract, empty, masks, SECRET)
    source = [canonical_row(contract, list(row.values())) for row in rows.to_pylist()]
    silver = [canonical_row(contract, list(row.values())) for row in masked.to_pylist()]
    assert source != silver
    assert [expect(row) for row in source] == silver

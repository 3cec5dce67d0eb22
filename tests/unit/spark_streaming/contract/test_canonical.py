from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from spark_streaming.contract.canonical import canonical_row, source_select
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column

UTC = datetime.timezone.utc


def _contract(*columns: Column) -> Contract:
    return Contract("public", 'odd "name"', columns, key=())


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("int64", -5, "-5"),
        ("decimal", Decimal("0E-10"), "0.0000000000"),
        ("decimal", Decimal("-1.50"), "-1.50"),
        ("float64", 1.5, "3ff8000000000000"),
        ("float64", float("nan"), "NaN"),
        ("float64", -0.0, "8000000000000000"),
        ("bool", True, "true"),
        ("bytes", b"\x00\xff", "00ff"),
        ("date", datetime.date(2026, 1, 2), "2026-01-02"),
        ("timestamp", datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05"),
        ("timestamp", datetime.datetime(1, 1, 2, 3, 4, 5, 120000), "0001-01-02 03:04:05.12"),
        (
            "timestamptz",
            datetime.datetime(2026, 1, 2, 3, 4, 50, tzinfo=UTC),
            "2026-01-02 03:04:50+00",
        ),
        ("time", "24:00:00", "24:00:00"),
        ("text", "", ""),
        ("text", None, None),
    ],
)
def test_silver_value_has_one_text(kind: str, value: Any, text: str | None) -> None:
    assert canonical_row(_contract(Column("c", "?", kind)), [value]) == (text,)


def test_array_is_printed_as_postgres_does() -> None:
    contract = _contract(
        Column("t", "text[]", "array", element="text"),
        Column("b", "bool[]", "array", element="bool"),
        Column("x", "bytea[]", "array", element="bytes"),
    )
    row = canonical_row(contract, [["a,b", None, "", "null"], [True, False], [b"\x01"]])
    assert row == ('{"a,b",NULL,"","null"}', "{t,f}", r'{"\\x01"}')


def test_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError):
        canonical_row(_contract(Column("c", "?", "text")), [])


def test_source_is_selected_in_the_contracts_order_by_its_own_names() -> None:
    contract = _contract(
        Column("a_b", "text", "text", source="a b", base_type="text"),
        Column("x", "bytea", "bytes", base_type="bytea"),
        Column("m", "money", "text_as_is", base_type="money"),
        Column("p", "character(5)", "text", base_type="bpchar"),
    )
    assert source_select(contract) == (
        'select "a b"::text, encode("x", \'hex\'), "m"::numeric::text, '
        'case when "p" is not null then concat("p") end from "public"."odd ""name""" where (true) '
        'and (tableoid = \'"public"."odd ""name"""\'::regclass or (select relkind = \'p\' '
        'from pg_class where oid = \'"public"."odd ""name"""\'::regclass))'
    )

from __future__ import annotations

import pickle
from dataclasses import replace

import pyarrow as pa
import pytest

from spark_streaming.contract.contract import Contract, ContractError
from spark_streaming.contract.types import Column

ORDERS = Contract(
    schema="public",
    table="Orders",
    columns=(
        Column("id", "bigint", "int64", nullable=False),
        Column("prices", "numeric(5,2)[]", "array", precision=5, scale=2, element="decimal"),
        Column("a_b", "text", "text", toastable=True, missing_value="x", source="a b"),
    ),
    key=("id",),
    left_out=("doubled",),
)


def test_contract_is_read_back_equal_from_json_and_pickle() -> None:
    assert Contract.from_json(ORDERS.to_json()) == ORDERS
    copy = pickle.loads(pickle.dumps(ORDERS))
    assert copy == ORDERS
    assert hash(copy) == hash(ORDERS)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"columns": [{"nope": 1}], "key": []}'])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="not a contract"):
        Contract.from_json(text)


def test_contract_with_an_unknown_kind_is_refused() -> None:
    odd = ORDERS.to_json().replace('"int64"', '"int65"')
    with pytest.raises(ContractError, match="unknown column kind `int65`"):
        Contract.from_json(odd)


def test_silver_schema_adds_only_the_metadata_columns() -> None:
    schema = ORDERS.silver_schema()
    assert schema.names == ["id", "prices", "a_b", "_lsn", "_committed_at", "_merged_at"]
    assert schema.field("_committed_at").type == pa.timestamp("us", "UTC")


def test_fingerprint_changes_with_the_columns_and_not_with_the_version() -> None:
    assert replace(ORDERS, version=7).fingerprint() == ORDERS.fingerprint()
    assert replace(ORDERS, columns=ORDERS.columns[:2]).fingerprint() != ORDERS.fingerprint()


def test_table_without_a_key_is_refused_with_the_statement_that_repairs_it() -> None:
    refused = replace(ORDERS, key=())
    assert refused.refusal == (
        "table public.Orders has no key and its replica identity is not FULL: "
        "an update does not say which row it changed\n"
        'hint: ALTER TABLE "public"."Orders" REPLICA IDENTITY FULL, or give it a primary key'
    )
    assert replace(refused, replica_identity="full").refusal is None


def test_table_whose_changes_are_not_logged_is_refused() -> None:
    refused = replace(ORDERS, replica_identity="nothing").refusal or ""
    assert refused.endswith('hint: ALTER TABLE "public"."Orders" REPLICA IDENTITY DEFAULT')
    assert ORDERS.refusal is None

"""Contracts in the Open Data Contract Standard are valid by the standard's own schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator
from open_data_contract_standard.model import OpenDataContractStandard

from app.catalog.odcs import odcs_of_stream, odcs_of_table
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import Refinements
from spark_streaming.contract.types import Column
from spark_streaming.streams.stream_contract import SHIPPED, Stream, read_streams

SHOP = Contract(
    "public",
    "orders",
    (
        Column("id", "bigint", "int64", nullable=False),
        Column("email", "text", "text"),
        Column("total", "numeric(12,2)", "decimal", precision=12, scale=2),
        Column("placed", "timestamp with time zone", "timestamptz"),
        Column("marks", "text[]", "array", element="text"),
        Column("paid", "boolean", "bool"),
    ),
    key=("id",),
    version=4,
)
FILE = {
    "description": "What customers ordered",
    "owner": "sales",
    "domain": "shop",
    "tags": ["core"],
    "freshness": "5s",
    "columns": {
        "email": {"classification": "personal", "mask": "hash", "not_null": True, "unique": True},
        "total": {"min": 0, "max": 1000.5, "description": "With tax"},
        "paid": {"values": [True]},
    },
    "expectations": [{"name": "positive", "condition": "total > 0"}],
    "conditions": [
        {"name": "late", "value": "avg(total)", "where": "paid", "min": 0.0, "max": 9.0},
        {"name": "some", "value": "count(*)", "min": 1.0},
        {"name": "few", "value": "count(*)", "max": 1.0},
        {"name": "falls", "value": "count(*)", "max_fall": 0.5},
    ],
}


def held_to_the_standard(document: dict[str, Any]) -> OpenDataContractStandard:
    """Check the printed document by the standard's JSON schema, then read it with the package."""
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    schema = files("open_data_contract_standard").joinpath("schema.json").read_text()
    found = Draft201909Validator(json.loads(schema)).iter_errors(yaml.safe_load(text))
    assert [f"{list(error.path)}: {error.message}" for error in found] == []
    return OpenDataContractStandard.from_string(text)


def test_the_schema_refuses_a_document_with_an_unknown_key() -> None:
    document = odcs_of_table(SHOP, None, {}, "orders")
    document["schema"][0]["properties"][0]["klass"] = "personal"
    with pytest.raises(AssertionError, match="klass"):
        held_to_the_standard(document)


def test_a_tables_contract_has_its_meaning_its_key_and_its_rules() -> None:
    content = Refinements.model_validate(FILE)
    contract = held_to_the_standard(odcs_of_table(SHOP, content, {"placed": "When"}, "orders"))
    assert (contract.apiVersion, contract.version, contract.domain) == ("v3.1.0", "4.0.0", "shop")
    assert contract.tags == ["core"]
    assert contract.description is not None
    assert contract.description.purpose == "What customers ordered"
    assert contract.schema_ is not None
    [table] = contract.schema_
    assert (table.name, table.physicalName) == ("orders", "lake.silver.orders")
    columns = {column.name: column for column in table.properties or []}
    assert list(columns)[:6] == [column.name for column in SHOP.columns]
    key, email, total = columns["id"], columns["email"], columns["total"]
    assert (key.primaryKey, key.primaryKeyPosition, key.required) == (True, 1, True)
    assert (email.classification, email.required, email.unique) == ("personal", True, True)
    assert email.transformDescription == "masked before silver: hash"
    assert (total.physicalType, total.logicalType) == ("decimal(12,2)", "number")
    assert total.logicalTypeOptions == {"minimum": 0, "maximum": 1000.5}
    assert columns["placed"].description == "When"
    assert columns["marks"].logicalType == "array"
    assert columns["total"].description == "With tax"
    rules = [rule.name for rule in table.quality or []]
    assert rules == ["positive", "late", "some", "few", "falls"]
    [latency] = contract.slaProperties or []
    assert (latency.property, latency.value, latency.unit) == ("latency", 5.0, "s")


def test_a_table_without_a_file_has_the_sources_comments() -> None:
    contract = held_to_the_standard(odcs_of_table(SHOP, None, {"": "Orders", "id": "No."}, "o"))
    assert contract.schema_ is not None
    [table] = contract.schema_
    assert table.description == "Orders"
    assert (table.properties or [])[0].description == "No."
    assert contract.team is None


@pytest.mark.parametrize("name", sorted(read_streams([SHIPPED / "streams"])[0]))
def test_a_streams_contract_holds_the_standard(name: str) -> None:
    stream: Stream = read_streams([SHIPPED / "streams"])[0][name]
    contract = held_to_the_standard(odcs_of_stream(stream))
    assert contract.schema_ is not None
    names = [column.name for column in contract.schema_[0].properties or []]
    assert names == stream.schema().names

"""A table's or stream's contract in the Open Data Contract Standard, version 3.1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import Schema

from app.catalog.catalogue import trino_type
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ColumnRules, Refinements, TableCondition
from spark_streaming.rules.declared_meaning import declared_meaning
from spark_streaming.streams.stream_contract import Stream
from spark_streaming.streams.stream_table import stream_meaning
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning

API_VERSION = "v3.1.0"
Document = dict[str, Any]


def odcs_of_table(
    contract: Contract, content: Refinements | None, comments: Mapping[str, str], silver: str
) -> Document:
    """Return the contract of a captured table.

    Args:
        content: of its contract file; None without one.
        comments: the source's, as `declared_meaning` takes them.
        silver: its table in silver.
    """
    content = content or Refinements()
    meaning = declared_meaning(contract, content, comments)
    document = _document(
        f"{contract.schema}.{contract.table}", silver, contract.silver_schema(), meaning
    )
    [table] = document["schema"]
    for entry in table["properties"]:
        column = contract.by_name.get(entry["name"])
        if column is None:
            continue
        rules = content.columns.get(column.name, ColumnRules())
        entry["required"] = not column.nullable or rules.not_null
        if rules.unique:
            entry["unique"] = True
        _add_rules(entry, rules)
    quality: list[Document] = [
        {
            "name": rule.name,
            "description": rule.description
            or f"each row satisfies the condition, else: {rule.action}",
            "type": "custom",
            "engine": "duckdb",
            "implementation": rule.condition,
        }
        for rule in content.expectations
    ]
    quality += [_condition(condition, silver) for condition in content.conditions]
    if quality:
        table["quality"] = quality
    if content.freshness is not None:
        document["slaProperties"] = [
            {
                "property": "latency",
                "value": content.freshness,
                "unit": "s",
                "description": "from the source's commit to the row in silver",
            }
        ]
    return document


def odcs_of_stream(stream: Stream) -> Document:
    """Return the contract of a stream."""
    document = _document(
        f"streams.{stream.name}", stream.name, stream.schema(), stream_meaning(stream)
    )
    for entry in document["schema"][0]["properties"]:
        column = stream.contract.columns.get(entry["name"])
        if column is not None and column.not_null:
            entry["required"] = True
        if column is not None and column.max_length and entry["logicalType"] == "string":
            entry["logicalTypeOptions"] = {"maxLength": column.max_length}
    document["slaProperties"] = [
        {"property": "retention", "value": stream.contract.retention_days, "unit": "d"}
    ]
    return document


def _document(name: str, silver: str, schema: pa.Schema, meaning: TableMeaning) -> Document:
    document: Document = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"headwater.{name}",
        "name": name,
        "version": f"{meaning.contract_version or 1}.0.0",
        "status": "active",
    }
    if meaning.domain:
        document["domain"] = meaning.domain
    if meaning.tags:
        document["tags"] = list(meaning.tags)
    if meaning.owner:
        document["team"] = {"name": meaning.owner}
    document["description"] = {"purpose": meaning.description}
    document["schema"] = [
        {
            "name": silver,
            "physicalName": f"lake.silver.{silver}",
            "physicalType": "table",
            "logicalType": "object",
            "description": meaning.description,
            "properties": _properties(schema, meaning),
        }
    ]
    return document


def _properties(schema: pa.Schema, meaning: TableMeaning) -> list[Document]:
    kinds = {
        field["name"]: trino_type(field["type"])
        for field in json.loads(Schema.from_arrow(schema).to_json())["fields"]
    }
    found = []
    for field in schema:
        said = meaning.columns.get(field.name, ColumnMeaning())
        entry: Document = {
            "name": field.name,
            "logicalType": logical_type(field.type),
            "physicalType": kinds[field.name],
        }
        if said.description:
            entry["description"] = said.description
        if said.classification:
            entry["classification"] = said.classification
        if field.name in meaning.key:
            entry["primaryKey"] = True
            entry["primaryKeyPosition"] = meaning.key.index(field.name) + 1
        if entry["logicalType"] == "array":
            entry["items"] = {"logicalType": logical_type(field.type.value_type)}
        found.append(entry)
    return found


def _add_rules(entry: Document, rules: ColumnRules) -> None:
    if rules.mask:
        entry["transformDescription"] = f"masked before silver: {rules.mask}"
    bounds = {"minimum": rules.min, "maximum": rules.max}
    given = {key: value for key, value in bounds.items() if value is not None}
    if given and entry["logicalType"] in ("integer", "number"):
        entry["logicalTypeOptions"] = given
    if rules.values:
        entry["quality"] = [
            {
                "metric": "invalidValues",
                "arguments": {"validValues": [_plain(value) for value in rules.values]},
                "mustBe": 0,
            }
        ]


def _condition(condition: TableCondition, silver: str) -> Document:
    where = f" WHERE {condition.where}" if condition.where else ""
    found: Document = {
        "name": condition.name,
        "type": "sql",
        "query": f'SELECT {condition.value} FROM lake.silver."{silver}"{where}',
    }
    if condition.description:
        found["description"] = condition.description
    if condition.min is not None and condition.max is not None:
        found["mustBeBetween"] = [condition.min, condition.max]
    elif condition.min is not None:
        found["mustBeGreaterOrEqualTo"] = condition.min
    elif condition.max is not None:
        found["mustBeLessOrEqualTo"] = condition.max
    else:
        found |= {"type": "text"}
        del found["query"]
        found["description"] = f"`{condition.value}` falls by at most {condition.max_fall}"
    return found


def logical_type(kind: pa.DataType) -> str:
    """Return the standard's name of an Arrow type."""
    tests: Sequence[tuple[str, Any]] = (
        ("boolean", pa.types.is_boolean),
        ("integer", pa.types.is_integer),
        ("number", pa.types.is_floating),
        ("number", pa.types.is_decimal),
        ("date", pa.types.is_date),
        ("timestamp", pa.types.is_timestamp),
        ("time", pa.types.is_time),
        ("array", pa.types.is_list),
        ("object", pa.types.is_struct),
    )
    return next((name for name, fits in tests if fits(kind)), "string")


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)

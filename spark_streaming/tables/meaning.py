"""The meaning of a table and its columns, in Delta's own metadata, where every reader finds it.

Descriptions are where Delta and Trino expect them (the table's description, a column's `comment`).
The rest is in properties of the table and in the columns' metadata, under names that begin
`headwater.`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from deltalake import DeltaTable, Field

from spark_streaming.contract.contract_files import Classification

COMMENT = "comment"
CLASSIFICATION = "headwater.classification"
MASK = "headwater.mask"
SOURCE_COLUMN = "headwater.source_column"
OWNER = "headwater.owner"
DOMAIN = "headwater.domain"
TAGS = "headwater.tags"
KEY = "headwater.key"
CONTRACT_VERSION = "headwater.contract_version"
# delta-rs refuses a longer description of a table.
DESCRIPTION_MAX = 4_000


@dataclass(frozen=True)
class ColumnMeaning:
    """A column's description, and its class: public, internal, personal, sensitive; "" is none.

    `mask`: how its values are hidden; `source`: its name in the source, if it differs.
    """

    description: str = ""
    classification: str = ""
    mask: str = ""
    source: str = ""

    def metadata(self) -> dict[str, str]:
        """The column's metadata; an empty text if there is nothing to say."""
        return {
            COMMENT: self.description,
            CLASSIFICATION: self.classification,
            MASK: self.mask,
            SOURCE_COLUMN: self.source,
        }


@dataclass(frozen=True)
class TableMeaning:
    """A table's description, owner, domain, tags and key, and the descriptions of its columns.

    Args:
        contract_version: that of a captured table; None for a stream's table.
        columns: by name; a column that is missing here keeps its meaning in the table.
    """

    description: str
    owner: str = ""
    domain: str = ""
    tags: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    contract_version: int | None = None
    columns: Mapping[str, ColumnMeaning] = field(default_factory=dict)

    def properties(self) -> dict[str, str]:
        """The table's properties; a value that is not known is an empty text."""
        return {
            OWNER: self.owner,
            DOMAIN: self.domain,
            TAGS: _listed(self.tags),
            KEY: _listed(self.key),
            CONTRACT_VERSION: str(self.contract_version or ""),
        }


def read_meaning(table: DeltaTable) -> TableMeaning:
    """The meaning that an open table's metadata holds."""
    found = table.metadata()
    properties = found.configuration
    version = properties.get(CONTRACT_VERSION)
    return TableMeaning(
        found.description or "",
        owner=properties.get(OWNER) or "",
        domain=properties.get(DOMAIN) or "",
        tags=_items(properties.get(TAGS)),
        key=_items(properties.get(KEY)),
        contract_version=int(version) if version else None,
        columns={
            column.name: ColumnMeaning(
                *(
                    str(column.metadata.get(key, ""))
                    for key in (COMMENT, CLASSIFICATION, MASK, SOURCE_COLUMN)
                )
            )
            for column in table.schema().fields
        },
    )


def write_meaning(table: DeltaTable, wanted: TableMeaning) -> int:
    """Write `wanted` into the table's metadata, in separate commits.

    Columns that get a meaning for the first time share one commit. Each column whose meaning
    changes needs its own, because delta-rs changes one at a time.

    Returns: how many commits it made; 0 if the metadata is already so.
    """
    before, found = table.version(), table.metadata()
    description = wanted.description[:DESCRIPTION_MAX]
    if (found.description or "") != description:
        table.alter.set_table_description(description)
    properties = {
        k: v for k, v in wanted.properties().items() if _differs(found.configuration, k, v)
    }
    if properties:
        table.alter.set_table_properties(properties, raise_if_not_exists=False)
    first: list[Field] = []
    changed: dict[str, dict[str, str]] = {}
    for column in table.schema().fields:
        says = wanted.columns.get(column.name)
        if says is None:
            continue
        new = {k: v for k, v in says.metadata().items() if _differs(column.metadata, k, v)}
        if new and column.metadata.keys().isdisjoint(new):
            first.append(Field(column.name, column.type, nullable=column.nullable, metadata=new))
        elif new:
            changed[column.name] = new
    if first:
        table.alter.add_columns(first)  # adds to the metadata of existing columns
    for name, new in changed.items():
        table.alter.set_column_metadata(name, new)
    return int(table.version() - before)


def classification_of(text: str) -> Classification | None:
    """Return a class as metadata has it; None for none, or for another text."""
    return next((one for one in get_args(Classification) if one == text), None)


def _differs(there: Mapping[str, object], name: str, wanted: str) -> bool:
    return (there.get(name) or "") != wanted


def _listed(items: tuple[str, ...]) -> str:
    return json.dumps(list(items), ensure_ascii=False) if items else ""


def _items(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()

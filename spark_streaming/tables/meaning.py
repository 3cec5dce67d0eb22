"""What a table and its columns mean, as Delta's own metadata: whoever reads the table finds it there.

Descriptions stand where Delta and Trino have them (the table's description, a column's `comment`);
the rest in properties of the table and in the columns' metadata, below `headwater.`.
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

    `mask`: how its values are hidden; `source`: its name in the source, where that is another one.
    """

    description: str = ""
    classification: str = ""
    mask: str = ""
    source: str = ""

    def metadata(self) -> dict[str, str]:
        """The column's metadata; an empty text where there is nothing to say."""
        return {
            COMMENT: self.description,
            CLASSIFICATION: self.classification,
            MASK: self.mask,
            SOURCE_COLUMN: self.source,
        }


@dataclass(frozen=True)
class TableMeaning:
    """A table's description, owner, domain, tags and key, and what its columns mean.

    Args:
        contract_version: of a captured table; None of a stream's.
        columns: by name; a column that is missing here keeps what the table says of it.
    """

    description: str
    owner: str = ""
    domain: str = ""
    tags: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    contract_version: int | None = None
    columns: Mapping[str, ColumnMeaning] = field(default_factory=dict)

    def properties(self) -> dict[str, str]:
        """The table's properties; an empty text where there is nothing to say."""
        return {
            OWNER: self.owner,
            DOMAIN: self.domain,
            TAGS: _listed(self.tags),
            KEY: _listed(self.key),
            CONTRACT_VERSION: str(self.contract_version or ""),
        }


def read_meaning(table: DeltaTable) -> TableMeaning:
    """What the metadata of an open table says of it."""
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
    """Let the table's metadata say what `wanted` says, in commits of their own.

    What columns say for the first time is one commit; a change is one for each changed column,
    because delta-rs changes one at a time.

    Returns: how many commits it made; none where the table says it already.
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
        table.alter.add_columns(first)  # adds to the metadata of columns that are there
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

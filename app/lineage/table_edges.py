"""The edges of a captured table, or a stream, into silver: source, topic, bronze, silver, column by column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.lineage.edge import BRONZE, COPY, DERIVED, LAKE, MASK, SOURCE, TOPIC, Edge, Place
from spark_streaming.contract.names import HISTORY_COLUMNS, METADATA_COLUMNS, topic_of


@dataclass(frozen=True)
class Column:
    """A column of a silver table. `source`: its name in the source; `mask`: hash, partial, redact or ""."""

    name: str
    type: str = "varchar"
    source: str = ""
    mask: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the lake, `schema.table` as Trino has it.

    `source`: the copied (schema, table) of the source; `stream`: the stream whose events it has.
    """

    name: str
    columns: tuple[Column, ...]
    source: tuple[str, str] | None = None
    stream: str = ""


def table_edges(table: Table, prefix: str, stream_topic: str = "") -> Iterator[Edge]:
    """Yield the edges that end in a silver table, or in a history.

    Args:
        prefix: of the topics' names.
        stream_topic: the topic of the table's stream, if it has one.
    """
    if table.source is not None:
        schema, name = table.source
        origin, topic = Place(SOURCE, f"{schema}.{name}"), topic_of(prefix, schema, name)
    elif table.stream:
        origin, topic = None, stream_topic
    else:
        return
    for column in table.columns:
        target = Place(LAKE, table.name, column.name)
        # They contain the place and time of an event and no column of the source.
        own = HISTORY_COLUMNS if table.name.startswith("history") else METADATA_COLUMNS
        if column.name in own or (table.stream and column.name.startswith("_")):
            yield Edge(Place(TOPIC, topic), target, DERIVED)
            continue
        given = column.source or column.name
        if origin is not None:
            yield Edge(origin._replace(column=given), Place(TOPIC, topic, given), COPY)
        yield Edge(Place(TOPIC, topic, given), Place(BRONZE, topic, given), COPY)
        kind = f"{MASK}{column.mask}" if column.mask else COPY
        yield Edge(Place(TOPIC, topic, given), target, kind)

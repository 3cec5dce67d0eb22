"""What tables, views and their columns are and mean, as rows of the Delta table `ops/meaning`.

The views `ops.tables` and `ops.columns` show them. Everything comes from the tables' own metadata
and from the headers of view files.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa
from deltalake.exceptions import DeltaError

from app.catalog.delta_tables import Identity, Size
from app.catalog.views import View
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.small_table import SmallTable
from spark_streaming.tables.kept_versions import VersionsNote
from spark_streaming.tables.meaning import ColumnMeaning

log = logging.getLogger("registrar")
PATH = "ops/meaning"
SCHEMA = pa.schema(
    [
        ("table_schema", pa.string()),
        ("table_name", pa.string()),
        ("column_name", pa.string()),
        ("position", pa.int32()),
        ("kind", pa.string()),
        ("type", pa.string()),
        ("description", pa.string()),
        ("owner", pa.string()),
        ("domain", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("classification", pa.string()),
        ("key", pa.list_(pa.string())),
        ("contract_version", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("old_bytes", pa.int64()),
        ("log_bytes", pa.int64()),
        ("limited_at", pa.timestamp("us", tz="UTC")),
        ("versions", pa.list_(pa.int64())),
        ("versions_at", pa.list_(pa.timestamp("us", tz="UTC"))),
    ]
)
# The least time between two writes: after a change of meaning, and after a change of sizes alone.
WRITE_PAUSE_S = 3.0
SIZES_PAUSE_S = 60.0
# Reading a size takes about 10 ms, because it reads the table's whole log.
SIZES_PER_PASS_MAX = 2
_TYPES = {
    "long": "bigint",
    "short": "smallint",
    "byte": "tinyint",
    "float": "real",
    "string": "varchar",
    "binary": "varbinary",
    "timestamp": "timestamp(3) with time zone",
    "timestamp_ntz": "timestamp(6)",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class MadeView:
    """A view in Trino: its file's content, and (name, type) of each column."""

    view: View
    columns: tuple[tuple[str, str], ...]


class MeaningTable:
    """The Delta table, written by the registrar only."""

    def __init__(self, lake: Lake) -> None:
        self._table = SmallTable(lake, PATH, SCHEMA)

    def replace(self, rows: Iterable[Row]) -> None:
        """Write these rows in place of all. Raises: DeltaError, OSError."""
        self._table.replace(pa.Table.from_pylist(list(rows), schema=SCHEMA))


class Sizes(Protocol):
    """What the catalogue reads from the lake."""

    def size(self, path: str) -> Size | None: ...


class Catalogue:
    """Keeps the table in step with the registered tables and views. Not for several threads."""

    def __init__(
        self, table: MeaningTable, lake: Sizes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = table
        self._lake = lake
        self._clock = clock
        self._written_at = self._sized_at = clock() - SIZES_PAUSE_S
        self._last: object = None
        self._sizes: dict[str, Size] = {}
        self._read_at: dict[str, float] = {}
        self._sizes_changed = False
        self._problem = ""

    def update(
        self,
        tables: Mapping[str, Identity],
        paths: Mapping[str, str],
        views: Mapping[str, MadeView],
    ) -> None:
        """Write changes if they are due; a failure is logged and retried.

        Args:
            tables, views: by `schema.table`, as Trino has them.
            paths: each table's path in the lake.
        """
        now = self._clock()
        try:
            self._read_sizes(tables, paths, now)
            now_known = ({n: (i, i.meaning) for n, i in tables.items()}, dict(views))
            changed = now_known != self._last and now - self._written_at >= WRITE_PAUSE_S
            grown = self._sizes_changed and now - self._sized_at >= SIZES_PAUSE_S
            if not changed and not grown:
                return
            self._written_at = now
            self._table.replace(meaning_rows(tables, self._sizes, views))
        except (DeltaError, OSError) as error:
            if self._problem != str(error):
                log.warning("ops.meaning could not be written: %s", error)
            self._problem = str(error)
            return
        self._last, self._sized_at, self._problem = now_known, now, ""
        self._sizes_changed = False

    def _read_sizes(
        self, tables: Mapping[str, Identity], paths: Mapping[str, str], now: float
    ) -> None:
        never = now - 2 * SIZES_PAUSE_S
        due = [n for n in tables if n in paths and self._at(n, never) <= now - SIZES_PAUSE_S]
        for name in sorted(due, key=lambda name: self._at(name, never))[:SIZES_PER_PASS_MAX]:
            self._read_at[name] = now
            size = self._lake.size(paths[name])
            if size is not None and self._sizes.get(name) != size:
                # The catalogue's own table grows with each write, and would never come to rest.
                self._sizes_changed |= paths[name] != PATH
                self._sizes[name] = size
        for name in self._sizes.keys() - tables.keys():
            del self._sizes[name]

    def _at(self, name: str, never: float) -> float:
        return self._read_at.get(name, never)


def meaning_rows(
    tables: Mapping[str, Identity], sizes: Mapping[str, Size], views: Mapping[str, MadeView]
) -> list[Row]:
    """A row for each table and view (`column_name` NULL), and one for each of their columns."""
    rows: list[Row] = []
    for name, identity in sorted(tables.items()):
        schema, _, table = name.partition(".")
        meaning, size = identity.meaning, sizes.get(name)
        owned = {
            "table_schema": schema,
            "table_name": table,
            "kind": "table",
            "owner": meaning.owner or None,
            "domain": meaning.domain or None,
            "tags": list(meaning.tags),
            "contract_version": meaning.contract_version,
        }
        rows.append(
            {
                **owned,
                "description": meaning.description or None,
                "key": list(meaning.key),
                "rows": size.rows if size else None,
                "bytes": size.bytes if size else None,
                **_versions(size.versions if size else None),
            }
        )
        fields = json.loads(identity.columns)["fields"]
        for position, column in enumerate(fields, start=1):
            said = meaning.columns.get(column["name"], ColumnMeaning())
            rows.append(
                _column(owned, position, column["name"], trino_type(column["type"]), said)
                | {"key": list(meaning.key)}
            )
    for name, made in sorted(views.items()):
        schema, _, table = name.partition(".")
        view, classes, says = made.view, dict(made.view.classes), dict(made.view.columns)
        owned = {
            "table_schema": schema,
            "table_name": table,
            "kind": "view",
            "owner": view.owner or None,
            "domain": view.domain or None,
            "tags": list(view.tags),
        }
        rows.append({**owned, "description": view.question})
        for position, (column, kind) in enumerate(made.columns, start=1):
            said = ColumnMeaning(says.get(column, ""), classes.get(column, ""))
            rows.append(_column(owned, position, column, kind, said))
    return rows


def _versions(note: VersionsNote | None) -> Row:
    if note is None:
        return {}
    return {
        "old_bytes": note.old_bytes,
        "log_bytes": note.log_bytes,
        "limited_at": note.limited_at and datetime.fromisoformat(note.limited_at),
        "versions": [number for number, _ in note.versions],
        "versions_at": [datetime.fromisoformat(at) for _, at in note.versions],
    }


def _column(owned: Row, position: int, name: str, kind: str, said: ColumnMeaning) -> Row:
    return {
        **owned,
        "column_name": name.lower(),
        "position": position,
        "type": kind,
        "description": said.description or None,
        "classification": said.classification or None,
    }


def trino_type(kind: Any) -> str:
    """Return Trino's name of a type as Delta's schema has it (JSON)."""
    if isinstance(kind, str):
        return _TYPES.get(kind, kind)
    if kind["type"] == "array":
        return f"array({trino_type(kind['elementType'])})"
    if kind["type"] == "map":
        return f"map({trino_type(kind['keyType'])}, {trino_type(kind['valueType'])})"
    inner = (f"{field['name']} {trino_type(field['type'])}" for field in kind["fields"])
    return f"row({', '.join(inner)})"

"""Converts the registrar's tables and views to `app.lineage`'s types."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from app.catalog.catalogue import MadeView, trino_type
from app.catalog.delta_tables import Identity
from app.lineage.keeper import ViewQuery
from app.lineage.table_edges import Column, Table
from spark_streaming.tables.meaning import ColumnMeaning

_QUOTED = re.compile(r'"((?:[^"]|"")*)"\."((?:[^"]|"")*)"')


class LineageTables:
    """The registered tables, with the origins in their metadata.

    It is called each second, so a table is converted again only when the registrar has read it again.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Identity, Table]] = {}

    def of(self, tables: Mapping[str, Identity]) -> list[Table]:
        """Return them, sorted by name."""
        for name, identity in tables.items():
            known = self._known.get(name)
            if known is None or known[0] is not identity:
                table = _table(name, identity)
                # The same object if nothing has changed, so that the comparison is fast.
                same = known is not None and known[1] == table
                self._known[name] = (identity, known[1] if known and same else table)
        for gone in self._known.keys() - tables.keys():
            del self._known[gone]
        return [table for _, (_, table) in sorted(self._known.items())]


def _table(name: str, identity: Identity) -> Table:
    columns = []
    for field in json.loads(identity.columns)["fields"]:
        said = identity.meaning.columns.get(field["name"], ColumnMeaning())
        source = said.source or field["name"]
        columns.append(Column(field["name"].lower(), trino_type(field["type"]), source, said.mask))
    quoted = _QUOTED.fullmatch(identity.source)
    source = (quoted[1].replace('""', '"'), quoted[2].replace('""', '"')) if quoted else None
    return Table(name, tuple(columns), source, identity.stream)


def view_queries(views: Mapping[str, MadeView]) -> list[ViewQuery]:
    """Return the views that Trino has."""
    return [
        ViewQuery(name, made.view.select, made.columns, made.view.reads)
        for name, made in views.items()
    ]

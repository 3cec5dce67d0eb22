"""Keeps `ops.lineage` in step with the lake, in a thread beside the registrar's passes.

A round does the following:
  1. make the edges of tables, views, jobs and Superset's assets; the edges of objects that have not
     changed since the last round are cached;
  2. write all edges as one commit, if any edge is new or gone;
  3. give the new edges to the sender of OpenLineage events, if there is one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deltalake.exceptions import DeltaError

from app.errors import HeadwaterError
from app.lineage.edge import Edge
from app.lineage.lineage_table import LineageTable
from app.lineage.run_reader import RunReader
from app.lineage.table_edges import Table, table_edges

log = logging.getLogger("registrar")
# The least time between two rounds after a change, and between two without a known change.
CHANGE_PAUSE_S = 3.0
ROUND_S = 30.0
# A lake of a thousand tables with a hundred columns has some 300,000.
EDGES_MAX = 1_000_000


@dataclass(frozen=True)
class ViewQuery:
    """A view as the registrar made it: `schema.name`, its SELECT, its columns with types, the tables it reads."""

    name: str
    select: str
    columns: tuple[tuple[str, str], ...]
    reads: tuple[str, ...]


class Sender(Protocol):
    """Receives all edges after a change, such as the sender of OpenLineage events."""

    def offer(self, edges: Collection[Edge]) -> None: ...


class LineageKeeper:
    """Used by one thread; its rounds run in a thread of their own.

    Args:
        prefix: of the topics' names.
        stream_topic: gives a stream's topic.
        assets: the folder of Superset's assets; it need not exist.
        sender: gets the edges after each change.
    """

    def __init__(
        self,
        table: LineageTable,
        runs: RunReader,
        prefix: str,
        stream_topic: Callable[[str], str],
        assets: Path,
        sender: Sender | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._runs = runs
        self._prefix = prefix
        self._stream_topic = stream_topic
        self._assets = assets
        self._sender = sender
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lineage")
        self._running: Future[None] | None = None
        self._begun_at = clock() - ROUND_S
        self._told: object = None
        self._written: frozenset[Edge] | None = None
        self._made_from: object = None
        self._others: tuple[list[Edge], list[Edge]] = ([], [])
        self._schemas: dict[str, dict[str, dict[str, str]]] = {}
        self._streamed: list[Edge] = []
        self._views: dict[str, tuple[object, list[Edge]]] = {}
        self._shown: tuple[object, list[Edge]] = (None, [])
        self._problem = ""

    def update(
        self, tables: Collection[Table], views: Collection[ViewQuery], paths: Mapping[str, str]
    ) -> None:
        """Begin a round if one is due and none is running; returns at once.

        Args:
            tables, views: those in Trino.
            paths: each table's path in the lake.
        """
        now = self._clock()
        told = (tuple(tables), tuple(views))
        pause = ROUND_S if told == self._told else CHANGE_PAUSE_S
        if now - self._begun_at < pause or (self._running and not self._running.done()):
            return
        self._begun_at, self._told = now, told
        self._running = self._thread.submit(self._guarded, *told, dict(paths))

    def await_round(self) -> None:
        """Wait for the running round."""
        if self._running is not None:
            self._running.result()

    def _guarded(
        self, tables: Iterable[Table], views: Iterable[ViewQuery], paths: Mapping[str, str]
    ) -> None:
        try:
            self._round(tables, views, paths)
        except (DeltaError, OSError, HeadwaterError) as error:
            if self._problem != str(error):
                log.warning("ops.lineage could not be written: %s", error)
            self._problem, self._told = str(error), None
        except Exception:  # nothing else depends on it; the next round retries
            log.exception("ops.lineage could not be written")
            self._told = None
        else:
            self._problem = ""

    def _round(
        self, tables: Iterable[Table], views: Iterable[ViewQuery], paths: Mapping[str, str]
    ) -> None:
        if self._written is None:
            self._written = frozenset(self._table.read())
        told, runs = (tables, views), self._runs.edges(paths)
        if told != self._made_from:
            self._schemas, self._streamed = self._of_tables_and_views(tables, views)
        shown = self._asset_edges(self._schemas)
        if (told, runs, shown) == (self._made_from, *self._others):
            return
        edges = frozenset([*self._streamed, *runs, *shown])
        if len(edges) > EDGES_MAX:
            raise HeadwaterError(
                f"{len(edges)} edges are more than its limit of {EDGES_MAX}",
                hint="ops.lineage stays as it was",
            )
        if edges != self._written:
            self._table.replace(sorted(edges))
            log.info("ops.lineage: %d edges", len(edges))
            self._written = edges
        if self._sender is not None:
            self._sender.offer(edges)
        self._made_from, self._others = told, (runs, shown)

    def _of_tables_and_views(
        self, tables: Iterable[Table], views: Iterable[ViewQuery]
    ) -> tuple[dict[str, dict[str, dict[str, str]]], list[Edge]]:
        schemas: dict[str, dict[str, dict[str, str]]] = {}
        edges: list[Edge] = []
        for table in tables:
            schema, _, name = table.name.partition(".")
            columns = {column.name.lower(): column.type for column in table.columns}
            schemas.setdefault(schema, {})[name] = columns
            topic = self._stream_topic(table.stream) if table.stream else ""
            edges += table_edges(table, self._prefix, topic)
        for view in views:
            schema, _, name = view.name.partition(".")
            schemas.setdefault(schema, {})[name] = dict(view.columns)
        for view in views:
            edges += self._view_edges(view, schemas)
        return schemas, edges

    def _view_edges(
        self, view: ViewQuery, schemas: dict[str, dict[str, dict[str, str]]]
    ) -> list[Edge]:
        from app.lineage.query_edges import view_edges  # sqlglot is slow to import (0.25 s)

        read = {name: schemas.get(name.partition(".")[0], {}).get(name.partition(".")[2]) for name in view.reads}  # fmt: skip
        made_from = (view, read)
        known = self._views.get(view.name)
        if known is None or known[0] != made_from:
            own: dict[str, dict[str, dict[str, str]]] = {}
            for name, columns in read.items():
                if columns is not None:
                    own.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = columns
            names = [column for column, _ in view.columns]
            found = view_edges(view.name, view.select, names, view.reads, own)
            known = self._views[view.name] = (made_from, found)
        return known[1]

    def _asset_edges(self, schemas: dict[str, dict[str, dict[str, str]]]) -> list[Edge]:
        from app.dashboards.assets import read_assets
        from app.lineage.asset_edges import asset_edges

        if not self._assets.is_dir():
            return []
        files = sorted(self._assets.rglob("*.yaml"))
        made_from = ([(str(one), one.stat().st_mtime_ns) for one in files], schemas)
        if self._shown[0] != made_from:
            try:
                found = list(asset_edges(read_assets(self._assets), schemas))
            except Exception as error:  # noqa: BLE001 - a file that somebody edits stops no table's edges
                log.warning("the lineage lacks Superset's assets: %r", error)
                found = []
            self._shown = (made_from, found)
        return self._shown[1]

"""Lineage over real tables in the object store equals Trino's own analysis of each view; the command shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from deltalake import write_deltalake

from app.catalog.delta_tables import LakeTables
from app.catalog.lake_catalog import Catalog
from app.catalog.registrar import Registrar
from app.catalog.views import View, read_views
from app.environment.settings import ROOT
from app.lineage.edge import FILTER, LAKE, UNKNOWN, Edge
from app.lineage.keeper import LineageKeeper
from app.lineage.lineage_table import LineageTable
from app.lineage.run_reader import RunReader
from app.query.trino_connection import USER, connect
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.meaning import ColumnMeaning, TableMeaning, write_meaning
from spark_streaming.tables.ownership import SOURCE, mark
from tests.support.stack import Stack, fresh_stack
from tests.support.store_lake import arrow, store_rows
from tests.support.waiting import until

SOON_S = 120.0
VIEWS = {view.name: view for view in read_views(ROOT / "trino" / "views")}
# Their tables exist; silver's job or other jobs write the tables of the other assets.
SHIPPED = sorted(
    name
    for name, view in VIEWS.items()
    if name.startswith("reports.")
    and not any(one.startswith(("ml.", "history.")) for one in view.reads)
)
# SQL that Trino analyses and the reports do not use.
SHAPES = {
    "join_using": "SELECT order_id, invoice_number FROM silver.orders JOIN silver.invoices USING (order_id)",
    "union": "SELECT title AS t FROM silver.movies UNION ALL SELECT upper(full_name) FROM silver.customers",
    "star_of_a_view": "SELECT * FROM reports.most_rated_movies",
    "two_ctes": "WITH a AS (SELECT customer_id AS c, count(*) AS n FROM silver.orders GROUP BY 1), "
    "b AS (SELECT c, n * 2 AS twice FROM a) SELECT full_name, twice FROM b "
    "JOIN silver.customers ON customer_id = c",
    "windows": "SELECT sum(stars) OVER w AS q, rank() OVER (ORDER BY movie_id) AS r "
    "FROM silver.ratings WINDOW w AS (PARTITION BY customer_id ORDER BY stars)",
    "a_lambda": "SELECT transform(languages, l -> l || title) AS x, cardinality(languages) AS n FROM silver.movies",
    "an_unnest": "SELECT title, l FROM silver.movies CROSS JOIN UNNEST(languages) AS u (l)",
    "conditions": "SELECT CASE WHEN country = 'IT' THEN customer_id END AS o, coalesce(full_name, 'x') AS s "
    "FROM silver.customers WHERE country IS NOT NULL",
    "a_subquery": "SELECT title, (SELECT max(stars) FROM silver.ratings) AS most FROM silver.movies",
}  # fmt: skip
# Trino 476 names no source of a column of UNNEST or USING, and only the argument of a named window.
GAPS = {
    "reports.catalogue_completeness": {"filled", "missing", "percent"},
    "join_using": {"order_id"},
    "an_unnest": {"l"},
    "windows": {"q"},
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The object store, Trino and the registrar, over tables as the streaming job describes them."""
    with fresh_stack() as fresh:
        fresh.up("--only", "tables")
        lake = Lake(fresh.settings.store)
        for name, rows in arrow(store_rows(7)).items():
            path = f"silver/{name}"
            options = lake.storage_options()
            write_deltalake(lake.url(path), rows, storage_options=options)
            table = lake.table(path)
            source = {SOURCE: mark("public", name)}
            table.alter.set_table_properties(source, raise_if_not_exists=False)
        masked = TableMeaning("", columns={"full_name": ColumnMeaning(mask="partial")})
        write_meaning(lake.table("silver/customers"), masked)
        yield fresh


@pytest.fixture(scope="module")
def lake(stack: Stack) -> Lake:
    return Lake(stack.settings.store)


@pytest.fixture(scope="module")
def edges(stack: Stack, lake: Lake) -> list[Edge]:
    """Wait until every shipped view is in the stack's lineage. Returns: the lineage."""
    return until(
        LineageTable(lake).read,
        lambda found: set(SHIPPED) <= {edge.target.name for edge in found},
        within_s=SOON_S,
        what="the lineage of every shipped view",
        every_s=1.0,
    )


@pytest.fixture(scope="module")
def schema(stack: Stack) -> Iterator[str]:
    stack.query("CREATE SCHEMA IF NOT EXISTS lake.oracle")
    yield "lake.oracle"
    stack.query("DROP SCHEMA lake.oracle")


def sources_by_trino(stack: Stack, schema: str, select: str) -> dict[str, set[str]]:
    """Column → its origins, from Trino's analysis of `CREATE TABLE AS`."""
    table = f"{schema}.probe"
    with closing(connect(stack.settings.trino_url)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE {table} AS ({select}) WITH NO DATA")
        cursor.fetchall()
        try:
            answer = requests.get(
                f"{stack.settings.trino_url}/v1/query/{cursor.query_id}",
                headers={"X-Trino-User": USER},
                timeout=30,
            )
            answer.raise_for_status()
        finally:
            cursor.execute(f"DROP TABLE {table}")
            cursor.fetchall()
    found = {}
    for column in answer.json()["output"]["columns"]:
        found[_column_name(column)] = {_source_name(one) for one in column["sourceColumns"]}
    return found


def _column_name(column: dict[str, Any]) -> str:
    named = column["column"]
    return str(named["name"] if isinstance(named, dict) else named)


def _source_name(source: dict[str, Any]) -> str:
    table = source["tableName"]
    if isinstance(table, str):
        return f"{table.partition('.')[2]}.{source['columnName']}"
    return f"{table['schemaName']}.{table['objectName']}.{source['columnName']}"


def ours(edges: list[Edge], view: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for edge in edges:
        if edge.target.namespace == LAKE and edge.target.name == view and edge.kind != FILTER:
            assert edge.kind != UNKNOWN, edge
            found.setdefault(edge.target.column, set()).add(str(edge.origin))
    return found


def equal_but_for_gaps(
    found: dict[str, set[str]], trino: dict[str, set[str]], gaps: set[str]
) -> None:
    """Compare our origins of each column with Trino's; for `gaps` we have more, because Trino stops there."""
    for column in gaps:
        assert trino.pop(column) < found.pop(column), column
    assert found == without_empty(trino)


def without_empty(columns: dict[str, set[str]]) -> dict[str, set[str]]:
    return {column: sources for column, sources in columns.items() if sources}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_columns_of_each_shipped_view_come_from_what_trino_says(
    stack: Stack, edges: list[Edge], schema: str, name: str
) -> None:
    expected = sources_by_trino(stack, schema, VIEWS[name].select)
    equal_but_for_gaps(ours(edges, name), expected, GAPS.get(name, set()))


class Probe:
    """A registrar of the test with its own views; its lineage is separate from the stack's."""

    def __init__(self, stack: Stack, lake: Lake, assets: Path) -> None:
        self._stack, self._lake, self._assets = stack, lake, assets
        self.table = LineageTable(lake.below("probe"))

    def lineage_of(self, views: list[View]) -> list[Edge]:
        keeper = LineageKeeper(self.table, RunReader(self._lake), "hw", str, self._assets)
        registrar = Registrar(
            LakeTables(self._lake),
            Catalog(self._stack.settings.trino_url),
            [*VIEWS.values(), *views],
            lineage=keeper,
        )
        registrar.one_pass()
        keeper.await_round()
        assert not [name for name in registrar.problems if name in {view.name for view in views}]
        return self.table.read()


@pytest.fixture(scope="module")
def probe(stack: Stack, lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return Probe(stack, lake, tmp_path_factory.mktemp("assets"))


def view_of(name: str, select: str, *reads: str) -> View:
    return View(f"reports.{name}", "What?", reads, select)


def test_other_shapes_of_a_view_come_from_what_trino_says_too(
    stack: Stack, schema: str, probe: Probe
) -> None:
    reads = ("silver.orders", "silver.invoices", "silver.ratings", "silver.movies", "silver.customers", "reports.most_rated_movies")  # fmt: skip
    edges = probe.lineage_of([view_of(name, select, *reads) for name, select in SHAPES.items()])
    for name, select in SHAPES.items():
        expected = sources_by_trino(stack, schema, select)
        equal_but_for_gaps(ours(edges, f"reports.{name}"), expected, GAPS.get(name, set()))


def test_edges_follow_a_changed_view(probe: Probe) -> None:
    before = probe.lineage_of([view_of("shifting", "SELECT title AS x FROM silver.movies", "silver.movies")])  # fmt: skip
    assert ours(before, "reports.shifting") == {"x": {"silver.movies.title"}}
    after = probe.lineage_of([view_of("shifting", "SELECT upper(tagline) AS x FROM silver.movies", "silver.movies")])  # fmt: skip
    assert ours(after, "reports.shifting") == {"x": {"silver.movies.tagline"}}
    assert not ours(probe.lineage_of([]), "reports.shifting")


def test_the_command_answers_up_to_the_source_and_down_to_dashboards(
    stack: Stack, edges: list[Edge]
) -> None:
    down = stack.answer("lineage", "customers.full_name", "--down")
    pairs = {(row["from"], row["to"]) for row in down}
    assert ("silver.customers.full_name", "reports.top_customers.full_name") in pairs
    assert "chart:Top customers" in {row["to"] for row in down}
    assert [row for row in down if row["to"].startswith("dashboard:")]
    assert {row["way"] for row in down} == {"down"}
    up = stack.answer("lineage", "reports.top_customers.full_name", "--up")
    kinds = {row["from"]: row["kind"] for row in up}
    assert kinds["source:public.customers.full_name"] == "copy"
    assert kinds["topic:hw.public.customers.full_name"] == "mask:partial"
    both = stack.answer("lineage", "customers")
    assert {row["way"] for row in both} == {"up", "down"}
    wrong = stack.run("lineage", "custmers.full_name", expect=1)
    assert "hint: is it customers" in wrong.stderr
    assert "from,to" in stack.run("lineage", "customers", "--format", "csv").stdout


def test_the_lineage_is_a_table_that_sql_reads(stack: Stack, edges: list[Edge]) -> None:
    del edges
    [(count,)] = until(
        lambda: stack.query("SELECT count(*) FROM ops.lineage WHERE to_name = 'reports.top_customers'"),
        lambda rows: rows[0][0] > 0,
        within_s=SOON_S,
        what="ops.lineage in Trino",
    )  # fmt: skip
    assert count > 5

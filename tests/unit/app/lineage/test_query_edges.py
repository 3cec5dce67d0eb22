"""A view's columns are made from the columns that its SELECT names."""

from __future__ import annotations

import pytest

from app.lineage.edge import COPY, DERIVED, FILTER, UNKNOWN, Edge
from app.lineage.query_edges import view_edges

SCHEMAS = {
    "silver": {
        "people": {
            "id": "bigint",
            "name": "varchar",
            "city": "varchar",
            "tags": "array(varchar)",
            "notes": "map(varchar, bigint)",
            "home": "row(street varchar, zip varchar)",
        },
        "orders": {"id": "bigint", "person_id": "bigint", "amount": "decimal(12, 2)", "at": "date"},
    },
    "reports": {"cities": {"city": "varchar", "people": "bigint"}},
}
READS = ("silver.people", "silver.orders")


def edges_of(select: str, columns: str) -> list[Edge]:
    return view_edges("reports.v", select, columns.split(), READS, SCHEMAS)


def made(select: str, columns: str) -> dict[str, set[str]]:
    """Column → its origins; `id` of people is `p.id`."""
    found: dict[str, set[str]] = {column: set() for column in columns.split()}
    for edge in edges_of(select, columns):
        assert edge.kind != UNKNOWN, edge.detail
        if edge.kind != FILTER:
            found[edge.target.column].add(_short(edge))
    return found


def filters(select: str, columns: str) -> set[str]:
    return {_short(edge) for edge in edges_of(select, columns) if edge.kind == FILTER}


def _short(edge: Edge) -> str:
    letter = edge.origin.name.partition(".")[2][0]
    return f"{letter}.{edge.origin.column}" if edge.origin.column else letter


CASES = {
    "an alias": ("SELECT p.name AS n FROM silver.people AS p", {"n": "p.name"}),
    "a star": (
        "SELECT * FROM silver.orders",
        {"id": "o.id", "person_id": "o.person_id", "amount": "o.amount", "at": "o.at"},
    ),
    "a table's star in a join": (
        "SELECT o.*, name FROM lake.silver.orders o JOIN silver.people p ON p.id = person_id",
        {"id": "o.id", "person_id": "o.person_id", "amount": "o.amount", "at": "o.at", "name": "p.name"},
    ),
    "USING": ("SELECT id, amount FROM people JOIN orders USING (id)", {"id": "p.id o.id", "amount": "o.amount"}),
    "a CTE": (
        "WITH big AS (SELECT person_id AS who, amount * 2 AS twice FROM silver.orders) "
        "SELECT who, twice FROM big",
        {"who": "o.person_id", "twice": "o.amount"},
    ),
    "a CTE that refers to itself": (
        "WITH RECURSIVE r (n, c) AS (SELECT id, city FROM silver.people UNION ALL "
        "SELECT n + 1, c FROM r WHERE n < 3) SELECT n, c FROM r",
        {"n": "p.id", "c": "p.city"},
    ),
    "a union": (
        "SELECT name FROM silver.people UNION SELECT upper(city) FROM silver.people "
        "UNION ALL SELECT city FROM reports.cities",
        {"name": "p.name p.city c.city"},
    ),
    "EXCEPT": ("(SELECT id FROM silver.people) EXCEPT (SELECT person_id FROM silver.orders)", {"id": "p.id o.person_id"}),
    "aggregates": (
        "SELECT city, count(*) AS n, sum(amount) FILTER (WHERE at > DATE '2026-01-01') AS s, "
        "max_by(name, amount) AS m FROM silver.people p JOIN silver.orders o ON o.person_id = p.id GROUP BY 1",
        {"city": "p.city", "n": "", "s": "o.amount o.at", "m": "p.name o.amount"},
    ),
    "a window": (
        "SELECT row_number() OVER (PARTITION BY city ORDER BY name) AS r FROM silver.people",
        {"r": "p.city p.name"},
    ),
    "a named window": (
        "SELECT sum(id) OVER w AS s FROM silver.people WINDOW w AS (PARTITION BY city ORDER BY name)",
        {"s": "p.id p.city p.name"},
    ),
    "a condition": ("SELECT CASE WHEN city = 'Rome' THEN name END AS x FROM silver.people", {"x": "p.city p.name"}),
    "a subquery": (
        "SELECT name, (SELECT max(amount) FROM silver.orders o WHERE o.person_id = p.id) AS most "
        "FROM silver.people p",
        {"name": "p.name", "most": "o.amount"},
    ),
    "a derived table with names of its own": (
        "SELECT k, w FROM (SELECT id, name FROM silver.people) AS t (k, w)",
        {"k": "p.id", "w": "p.name"},
    ),
    "LATERAL": (
        "SELECT name, l.a FROM silver.people p CROSS JOIN LATERAL "
        "(SELECT amount AS a FROM silver.orders o WHERE o.person_id = p.id) AS l",
        {"name": "p.name", "a": "o.amount"},
    ),
    "UNNEST of an array": (
        "SELECT t, n FROM silver.people CROSS JOIN UNNEST(tags) WITH ORDINALITY AS u (t, n)",
        {"t": "p.tags", "n": ""},
    ),
    "UNNEST of two arrays": (
        "SELECT a, b FROM silver.people CROSS JOIN UNNEST(ARRAY['x', 'y'], ARRAY[name, city]) AS u (a, b)",
        {"a": "", "b": "p.name p.city"},
    ),
    "UNNEST of a map": ("SELECT k, v FROM silver.people CROSS JOIN UNNEST(notes) AS u (k, v)", {"k": "p.notes", "v": "p.notes"}),
    "a field of a row": ("SELECT home.street AS s, p.home.zip AS z FROM silver.people p", {"s": "p.home", "z": "p.home"}),
    "a lambda": ("SELECT transform(tags, t -> t || name) AS x FROM silver.people", {"x": "p.tags p.name"}),
    "a view": ("SELECT people AS n FROM reports.cities", {"n": "c.people"}),
    "VALUES": ("SELECT a, name FROM (VALUES (1, 'x')) AS v (a, b) JOIN silver.people ON name = b", {"a": "", "name": "p.name"}),
    "capitals": ('SELECT NAME AS N, "City" AS c FROM SILVER.PEOPLE', {"n": "p.name", "c": "p.city"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_column_is_made_of_what_its_expression_names(case: str) -> None:
    select, expected = CASES[case]
    wanted = {column: set(origins.split()) for column, origins in expected.items()}
    assert made(select, " ".join(expected)) == wanted


def test_a_column_that_is_handed_on_unchanged_is_a_copy_through_every_step() -> None:
    select = "WITH a AS (SELECT city AS c FROM silver.people) SELECT c, lower(c) AS l FROM a"
    kinds = {edge.target.column: edge.kind for edge in edges_of(select, "c l")}
    assert kinds == {"c": COPY, "l": DERIVED}


def test_what_only_decides_which_rows_there_are_is_a_filter_of_the_whole_view() -> None:
    select = (
        "SELECT name AS who FROM silver.people p JOIN silver.orders o ON o.person_id = p.id "
        "WHERE amount > 3 AND EXISTS (SELECT 1 FROM silver.orders x WHERE x.at IS NULL) "
        "GROUP BY name HAVING max(city) > 'a' ORDER BY who"
    )
    found = filters(select, "who")
    assert found == {"o.person_id", "p.id", "o.amount", "o.at", "p.name", "p.city"}
    assert all(not e.target.column for e in edges_of(select, "who") if e.kind == FILTER)


def test_a_table_of_which_only_rows_are_counted_is_read_all_the_same() -> None:
    assert filters("SELECT count(*) AS n FROM silver.people", "n") == {"p"}


@pytest.mark.parametrize(
    ("select", "columns", "why"),
    [
        ("SELECT nothing FROM silver.people", "nothing", "`nothing` is no column"),
        ("SELECT a FROM MATCH((", "a", "Required keyword"),
        ("SELECT * FROM silver.strangers", "a b", "not known"),
        ("SELECT id, name FROM silver.people", "id", "it has 1 columns, 2 were found"),
        ("DROP TABLE silver.people", "id", "no query"),
    ],
)
def test_what_cannot_be_read_is_an_edge_of_unknown_columns_with_the_reason(
    select: str, columns: str, why: str
) -> None:
    edges = edges_of(select, columns)
    assert [edge.origin.name for edge in edges] == list(READS)
    assert {edge.kind for edge in edges} == {UNKNOWN}
    assert why in edges[0].detail
    assert "\x1b" not in edges[0].detail

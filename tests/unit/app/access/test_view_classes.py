"""Which class a view's column has, by what its SQL computes it from."""

from __future__ import annotations

import pytest

from app.access.view_classes import ViewQuery, origins, view_classes

CUSTOMERS = {"id": "internal", "email": "personal", "iban": "sensitive", "country": "public"}
TABLES = {
    "silver.customers": CUSTOMERS,
    "silver.orders": {"order_id": "internal", "id": "internal", "total": "internal"},
}


def classes(select: str, *columns: str, **more: object) -> dict[str, str]:
    view = ViewQuery(["silver.customers", "silver.orders"], select, **{"declared": {}, **more})  # type: ignore[arg-type]
    return dict(view_classes(view, columns or ("x",), TABLES))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "select",
    [
        "SELECT email AS x FROM silver.customers",
        "SELECT lower(trim(email)) AS x FROM silver.customers",
        "SELECT count(DISTINCT email) AS x FROM silver.customers",
        "WITH a AS (SELECT email AS y FROM silver.customers), b AS (SELECT y FROM a) SELECT y AS x FROM b",
        "SELECT a.y AS x FROM (SELECT max_by(email, id) AS y FROM silver.customers) AS a",
        "SELECT country AS x FROM silver.customers UNION ALL SELECT email FROM silver.customers",
        "SELECT CASE WHEN email = 'a' THEN 1 ELSE 0 END AS x FROM silver.customers",
        "SELECT (SELECT max(email) FROM silver.customers) AS x FROM silver.orders",
        "SELECT o.id IN (SELECT length(email) FROM silver.customers) AS x FROM silver.orders AS o",
        "SELECT t.v AS x FROM silver.customers CROSS JOIN UNNEST(ARRAY[email]) AS t (v)",
        "SELECT element_at(transform(ARRAY[email], e -> upper(e)), 1) AS x FROM silver.customers",
        "SELECT first_value(email) OVER (PARTITION BY country ORDER BY id) AS x FROM silver.customers",
        'SELECT "EMAIL" AS x FROM silver.customers',
        "SELECT x FROM (SELECT *, email AS x FROM silver.customers)",
    ],
)
def test_a_column_computed_from_a_personal_one_is_personal(select: str) -> None:
    assert classes(select) == {"x": "personal"}


def test_what_is_computed_from_no_column_is_internal_and_the_strictest_of_several_counts() -> None:
    found = classes(
        "SELECT count(*) AS n, email || iban AS both, country AS c FROM silver.customers GROUP BY 2, 3",
        "n", "both", "c",
    )  # fmt: skip
    assert found == {"n": "internal", "both": "sensitive", "c": "public"}


def test_a_star_is_each_column() -> None:
    found = classes("SELECT * FROM silver.customers", *CUSTOMERS)
    assert found == CUSTOMERS


@pytest.mark.parametrize(
    "select",
    [
        "SELEKT nothing",
        "SELECT y AS x FROM TABLE(some.function(TABLE(silver.customers)))",
        "SELECT r.email AS x FROM (SELECT CAST(ROW(email, iban) AS ROW(email varchar, iban varchar)) AS r FROM silver.customers)",
    ],
)
def test_what_cannot_be_read_counts_as_computed_from_all_that_the_view_reads(select: str) -> None:
    assert classes(select) == {"x": "sensitive"}


def test_a_table_that_the_header_does_not_name_counts_too() -> None:
    view = ViewQuery(["silver.orders"], "SELECT email AS x FROM silver.customers", {})
    assert view_classes(view, ["x"], TABLES) == {"x": "personal"}  # type: ignore[arg-type]


def test_a_table_that_is_not_known_makes_what_cannot_be_told_sensitive() -> None:
    view = ViewQuery(["silver.gone"], "SELECT a AS x FROM silver.gone", {})
    assert view_classes(view, ["x"], {}) == {"x": "sensitive"}


def test_a_released_column_has_the_class_of_the_header_and_a_header_only_makes_stricter() -> None:
    select = (
        "SELECT count(email) AS n, country AS c, email AS e FROM silver.customers GROUP BY 2, 3"
    )
    found = classes(
        select, "n", "c", "e", releases=frozenset({"n"}), declared={"c": "personal", "e": "public"}
    )
    assert found == {"n": "internal", "c": "personal", "e": "personal"}


def test_a_view_over_a_view_is_as_strict() -> None:
    inner = classes("SELECT lower(email) AS x FROM silver.customers")
    outer = ViewQuery(["reports.inner"], "SELECT x || '!' AS y FROM reports.inner", {})
    assert view_classes(outer, ["y"], {"reports.inner": inner}) == {"y": "personal"}  # type: ignore[dict-item]


def test_origins_are_columns_of_tables() -> None:
    found = origins(
        "SELECT o.total * 2 AS t, c.email FROM silver.orders AS o JOIN silver.customers AS c USING (id)",
        {name: list(columns) for name, columns in TABLES.items()},
    )
    assert found == {"t": {("silver.orders", "total")}, "email": {("silver.customers", "email")}}

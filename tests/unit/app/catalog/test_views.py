"""The view files' headers, their order, and the files of this repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog.views import View, in_reading_order, parse_view, read_views
from app.errors import HeadwaterError

ROOT = Path(__file__).resolve().parents[4]
GOOD = """-- view: reports.hours
-- question: What's earned an hour?
-- reads: silver.payments, silver.orders
-- columns:
--   hour  timestamp
SELECT 1 AS hour -- view: not.this
;
"""


def _view(name: str, *reads: str) -> View:
    return View(name, "?", reads, "SELECT 1")


def test_a_view_file_says_its_name_question_and_tables() -> None:
    view = parse_view(GOOD, where="hours.sql")
    assert view == View(
        "reports.hours",
        "What's earned an hour?",
        ("silver.payments", "silver.orders"),
        "SELECT 1 AS hour -- view: not.this",
        columns=(("hour", ""),),
    )


def test_a_view_file_says_what_its_columns_mean_and_whose_it_is() -> None:
    text = GOOD.replace(
        "--   hour  timestamp\n",
        """--   hour   timestamp(6): the start,
--          in UTC
--   total  decimal(12, 4), the sum, tax included
--   payer  varchar
-- owner: finance
-- domain: sales
-- tags: money, daily
-- classification: payer personal, total internal
""",
    )
    view = parse_view(text, where="hours.sql")
    assert dict(view.columns) == {
        "hour": "the start, in UTC",
        "total": "the sum, tax included",
        "payer": "",
    }
    assert (view.owner, view.domain, view.tags) == ("finance", "sales", ("money", "daily"))
    assert dict(view.classes) == {"payer": "personal", "total": "internal"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-- ovner: finance", "hours.sql:5: unknown key `ovner`"),
        ("-- classification: payer personal", "names column `payer`"),
        ("-- classification: hour secret", "cannot be 'secret'"),
        ("-- classification: hour", "cannot be ''"),
    ],
)
def test_a_header_line_that_is_wrong_is_refused_with_the_file(line: str, message: str) -> None:
    text = GOOD.replace("-- columns:", f"{line}\n-- columns:")
    with pytest.raises(HeadwaterError) as caught:
        parse_view(
            text.replace("-- question: What's earned an hour?\n", "-- question: ?\n-- owner: a\n"),
            where="hours.sql",
        )
    assert message in str(caught.value)


def test_the_question_becomes_the_comment_of_the_view() -> None:
    assert (
        parse_view(GOOD, where="hours.sql")
        .create_sql()
        .startswith(
            "CREATE OR REPLACE VIEW \"reports\".\"hours\" COMMENT 'What''s earned an hour?' "
        )
    )


@pytest.mark.parametrize("key", ["view", "question", "reads", "columns"])
def test_a_header_without_one_of_its_lines_is_refused_with_the_file(key: str) -> None:
    text = "".join(line for line in GOOD.splitlines(True) if not line.startswith(f"-- {key}:"))
    with pytest.raises(HeadwaterError, match=f"hours.sql has no line `-- {key}:`"):
        parse_view(text, where="hours.sql")


def test_a_name_that_is_not_schema_and_table_is_refused() -> None:
    with pytest.raises(HeadwaterError, match="`silver` is not"):
        parse_view(GOOD.replace("silver.orders", "silver"), where="hours.sql")


def test_a_view_comes_after_the_views_that_it_reads() -> None:
    views = [_view("r.c", "r.b"), _view("r.b", "r.a", "silver.x"), _view("r.a", "silver.x")]
    assert [view.name for view in in_reading_order(views)] == ["r.a", "r.b", "r.c"]


def test_views_that_read_each_other_in_a_circle_are_refused_by_name() -> None:
    with pytest.raises(HeadwaterError, match=r"circle(.|\n)*r\.a, r\.b"):
        in_reading_order([_view("r.a", "r.b"), _view("r.b", "r.a")])


def test_a_view_in_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "days.sql").write_text(GOOD)
    with pytest.raises(HeadwaterError, match=r"days\.sql defines view reports\.hours"):
        read_views(tmp_path)


def test_every_view_of_the_repository_has_a_header_and_a_line_in_the_readme() -> None:
    views = read_views(ROOT / "trino" / "views")
    readme = (ROOT / "trino" / "README.md").read_text()
    assert {
        "reports.revenue_by_hour",
        "reports.top_customers",
        "reports.most_rated_movies",
        "reports.best_rated_movies",
        "reports.rating_distribution",
        "reports.catalogue_completeness",
        "ops.freshness",
    } <= {view.name for view in views}
    undocumented = [view.name for view in views if f"`{view.name}`" not in readme]
    assert undocumented == []


def test_the_reports_are_tested_on_columns_that_the_demo_store_has() -> None:
    from app.store.tables.schema import metadata
    from tests.support.store_lake import SCHEMAS

    for table, schema in SCHEMAS.items():
        assert set(schema.names) <= set(metadata.tables[table].columns.keys()), table

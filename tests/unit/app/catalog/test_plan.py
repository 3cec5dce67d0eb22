"""`contract plan` prints the effects of a change without making it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.catalog.ddl import Effect, checked_statements, split_statements
from app.catalog.plan import PlannedChange, as_silver_reads, plan
from app.catalog.views import View
from app.errors import HeadwaterError
from spark_streaming.contract.contract_files import Evolution
from tests.unit.spark_streaming.contract.test_evolution import (
    EXTRA,
    FILMS,
    ID,
    MOOD,
    NOTE,
    PRICE,
    with_columns,
)

VIEWS = [
    View("reports.notes", "?", ("silver.films",), "SELECT note FROM silver.films"),
    View("reports.prices", "?", ("silver.films",), "SELECT price FROM silver.films"),
    View("reports.all_notes", "?", ("reports.notes",), "SELECT * FROM reports.notes"),
]
TABLE = ("public", "films")


def planned(found: object, evolution: Evolution = Evolution(), **more: object) -> PlannedChange:  # noqa: B008
    effect = Effect(TABLE, FILMS, found, **more)  # type: ignore[arg-type]
    [change] = plan([effect], lambda *_: evolution, VIEWS)
    return change


def test_a_renamed_column_breaks_the_views_that_name_it_and_those_that_read_them() -> None:
    change = planned(with_columns(ID, replace(NOTE, name="remark"), PRICE, MOOD))
    assert (change.kind, change.policy) == ("rename_column", "evolve")
    assert "reports.notes, reports.all_notes: fails" in change.trino
    assert "reports.prices" not in change.trino
    assert change.dashboards == "none in this tree"


def test_a_policy_that_holds_the_table_back_changes_nothing_further_on() -> None:
    narrower = with_columns(
        ID, replace(NOTE, pg_type="integer", kind="int32", base_type="int4"), PRICE, MOOD
    )
    change = planned(narrower)
    assert change.policy == "fail" and "the table stops" in change.silver
    assert change.trino.startswith("as before")
    change = planned(narrower, Evolution(incompatible_change="quarantine"))
    assert "wait in quarantine" in change.silver
    change = planned(narrower, Evolution(incompatible_change="new_version"))
    assert "`films__v1`" in change.silver


def test_the_generation_beside_is_named_by_the_version_that_silver_follows() -> None:
    found = with_columns(
        ID, replace(NOTE, pg_type="int", kind="int32", base_type="int4"), PRICE, MOOD
    )
    effects = as_silver_reads([Effect(TABLE, FILMS, found)], lambda *_: frozenset(), lambda *_: 4)
    [change] = plan(effects, lambda *_: Evolution(incompatible_change="new_version"), VIEWS)
    assert "`films__v4`" in change.silver


def test_a_column_that_is_text_by_choice_never_gets_a_wider_type() -> None:
    wider = with_columns(ID, NOTE, replace(PRICE, pg_type="numeric(12,2)", precision=12), MOOD)
    effect = Effect(TABLE, FILMS, wider)
    for texts, kind in (
        (frozenset[str](), "widen_type"),
        (frozenset({"price"}), "incompatible_change"),
    ):
        effects = as_silver_reads([effect], lambda *_, texts=texts: texts, lambda *_: None)
        [change] = plan(effects, lambda *_: Evolution(), VIEWS)
        assert change.kind == kind


def test_the_strictest_policy_of_a_tables_changes_is_told_with_each() -> None:
    found = with_columns(ID, PRICE, MOOD, EXTRA)
    effect = Effect(TABLE, FILMS, found)
    changes = plan([effect], lambda *_: Evolution(drop_column="fail"), VIEWS)
    assert [change.policy for change in changes] == ["fail", "evolve; fail counts for the table"]
    assert all("stops" in change.silver for change in changes)


def test_a_table_that_cannot_be_kept_any_more_says_how_to_repair_it() -> None:
    change = plan([Effect(TABLE, FILMS, replace(FILMS, key=()))], lambda *_: Evolution(), VIEWS)[0]
    assert 'ALTER TABLE "public"."films" REPLICA IDENTITY FULL' in change.silver


def test_a_truncate_and_a_new_table_are_told() -> None:
    effects = [Effect(TABLE, None, None, truncated=True), Effect(("public", "new"), None, FILMS)]
    truncated, added = plan(effects, lambda *_: Evolution(), VIEWS)
    assert (truncated.kind, truncated.silver) == ("table_truncated", "the rows go")
    assert (added.kind, added.table) == ("table_added", "public.new")


def test_dashboards_that_show_what_changes_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "notes.yaml").write_text("table_name: notes\nschema: reports\n")
    (folder / "prices.yaml").write_text("table_name: prices\n")
    effect = Effect(TABLE, FILMS, with_columns(ID, PRICE, MOOD))
    [change] = plan([effect], lambda *_: Evolution(), VIEWS, tmp_path)
    assert change.dashboards == "look at datasets/notes.yaml"


def test_statements_are_told_apart_behind_quotes_and_comments() -> None:
    text = """ALTER TABLE a ADD b text DEFAULT ';' -- ; no
    ; /* ; */ COMMENT ON TABLE a IS $x$;$x$; alter table ";" drop c;"""
    assert list(split_statements(text)) == [
        "ALTER TABLE a ADD b text DEFAULT ';'",
        "COMMENT ON TABLE a IS $x$;$x$",
        'alter table ";" drop c',
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DELETE FROM films",
        "SELECT 1",
        "ALTER TABLE a ADD b int; COMMIT",
        "CREATE INDEX CONCURRENTLY i ON films (id)",
        "DROP DATABASE store",
        "ALTER SYSTEM SET wal_level = 'minimal'",
        "CREATE TABLE copy AS SELECT * FROM films",
        "DO $$ BEGIN DELETE FROM films; END $$",
    ],
)
def test_a_statement_that_cannot_be_undone_is_refused(text: str) -> None:
    with pytest.raises(HeadwaterError):
        checked_statements(text)

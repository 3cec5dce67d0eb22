"""The page's catalogue: the shapes of its answers, and that it shows no value of a row."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from app.page import described_tables
from app.page.answers import Refused
from app.page.described_tables import DescribedTables
from app.page.trino_sql import Trino
from spark_streaming.streams.audit.audit_stream import audit_stream

ROOT = Path(__file__).resolve().parents[4]
EDGES = [
    ["source", "public.customers", "email", "lake", "silver.customers", "email", "mask:hash", None, None],
    ["lake", "silver.customers", "email", "lake", "reports.top", "people", "derived", "reports.top", None],
    ["lake", "silver.customers", "id", "lake", "reports.top", None, "filter", "reports.top", None],
    ["lake", "reports.top", None, "dashboard", "Store", None, "shown", None, None],
]  # fmt: skip


def parsed(statement: str) -> exp.Select:
    found = sqlglot.parse_one(statement, dialect="trino")
    assert isinstance(found, exp.Select)
    return found


class Known(Trino):
    """Answers by the table that a statement reads; what it does not know is not there."""

    def __init__(self, **rows: Any) -> None:
        super().__init__("http://127.0.0.1:1")
        self.rows = rows
        self.asked: list[str] = []

    def run(self, statement: str, rows_max: int, **_: Any) -> dict[str, Any]:
        self.asked.append(statement)
        whole = parsed(statement)
        [table] = whole.find_all(exp.Table)
        if table.name not in self.rows:
            raise Refused(422, message=f"no {table.name}", sqlstate="TABLE_NOT_FOUND")
        if isinstance(self.rows[table.name], Refused):
            raise self.rows[table.name]
        rows = self.rows[table.name]
        names = [one.alias_or_name for one in whole.selects]
        return {"columns": names, "rows": rows[:rows_max], "more": len(rows) > rows_max}


def test_all_tables_and_columns_come_with_their_meaning() -> None:
    found = DescribedTables(Known(tables=[["silver"]], columns=[["silver"], ["silver"]])).all()
    assert {part: len(answer["rows"]) for part, answer in found.items()} == {
        "tables": 1, "columns": 2,
    }  # fmt: skip
    for name in ("description", "owner", "domain", "tags", "classification", "verdict", "state"):
        assert name in found["tables"]["columns"]
    assert {"column_name", "classification", "is_key"} <= set(found["columns"]["columns"])


def test_a_catalogue_that_is_not_written_yet_says_who_writes_it() -> None:
    with pytest.raises(Refused, match="not described yet") as refused:
        DescribedTables(Known(columns=[])).all()
    assert (refused.value.status, refused.value.facts["hint"]) == (503, "./headwater status tables")


def test_a_table_of_silver_has_quality_versions_and_who_asked() -> None:
    trino = Known(
        expectations=[["email_not_empty"]], quarantine=[], schema_changes=[["2"]], audit=[["ana"]]
    )
    found = DescribedTables(trino).table("silver", "customers")
    assert {part: answer["rows"] for part, answer in found.items()} == {
        "expectations": [["email_not_empty"]], "quarantine": [], "versions": [["2"]], "askers": [["ana"]],
    }  # fmt: skip
    assert found["askers"]["columns"] == ["user_name", "questions", "failed", "last_asked"]


def test_without_the_audit_it_says_how_to_turn_it_on() -> None:
    found = DescribedTables(Known()).table("reports", "top")
    assert "audit = true" in found["askers"]["none"]["hint"]
    assert found["versions"]["none"]["message"] == "only tables of silver have it"


def test_a_part_that_fails_or_is_slow_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described_tables, "ANSWER_S", 0.2)
    go_on = threading.Event()

    class Slow(Known):
        def run(self, statement: str, rows_max: int, **more: Any) -> dict[str, Any]:
            assert "ops.quarantine" not in statement or go_on.wait(10)
            return super().run(statement, rows_max, **more)

    away = Refused(503, message="Trino does not answer")
    trino = Slow(expectations=away, quarantine=[], schema_changes=[], audit=[])
    found = DescribedTables(trino).table("silver", "customers")
    go_on.set()
    assert found["expectations"]["error"]["message"] == "Trino does not answer"
    assert found["quarantine"] == {"asked": True}
    assert found["versions"]["rows"] == []


@pytest.mark.parametrize("name", ["o'clock", "' OR '1'='1", "{whole}", "a\\'b", "%s"])
def test_a_name_is_a_literal_whatever_is_in_it(name: str) -> None:
    trino = Known(expectations=[], quarantine=[], schema_changes=[], audit=[])
    DescribedTables(trino).table("silver", name)
    for statement in trino.asked:
        literals = {one.this for one in parsed(statement).find_all(exp.Literal) if one.is_string}
        assert literals & {name, f"silver.{name}"}, statement


def test_lineage_of_a_table_and_of_a_column_goes_both_ways() -> None:
    described = DescribedTables(Known(lineage=EDGES))
    whole = described.lineage("silver", "customers")
    assert [(step["from"]["name"], step["kind"]) for step in whole["up"]] == [
        ("public.customers", "mask:hash")
    ]
    assert [(step["distance"], step["to"]["name"]) for step in whole["down"]] == [
        (1, "reports.top"), (2, "Store"),
    ]  # fmt: skip
    column = described.lineage("silver", "customers", "email")
    assert column["up"][0]["from"] == {
        "namespace": "source", "name": "public.customers", "column": "email",
    }  # fmt: skip
    assert [step["to"]["column"] for step in column["down"]] == ["people", ""]
    assert described.lineage("silver", "customers", "EMAIL")["start"]["column"] == "email"
    unknown = described.lineage("silver", "unknown")
    assert unknown == {"start": None, "up": [], "down": [], "more": False}


def test_nothing_that_may_quote_a_row_is_asked_for() -> None:
    trino = Known(
        tables=[], columns=[], lineage=[], expectations=[], quarantine=[], schema_changes=[], audit=[]
    )  # fmt: skip
    described = DescribedTables(trino)
    described.all()
    described.table("silver", "customers")
    described.lineage("silver", "customers")
    quoting = {
        "statement",
        "error_message",
        "differences",
        "reason",
        "key",
        "replayed_values",
        "warning",
    }
    for statement in trino.asked:
        whole = parsed(statement)
        assert not any(one.is_star for one in whole.selects), statement
        if "ops.tables" not in statement:  # whose `key` names columns
            assert not {one.name for one in whole.find_all(exp.Column)} & quoting, statement


def test_the_page_reads_no_text_of_the_audit_in_an_open_stack_either() -> None:
    rules = json.loads((ROOT / "trino" / "rules.json").read_text())["tables"]
    of_audit = [one for one in rules if one.get("table") == "audit"]
    [mine] = [one for one in of_audit if one.get("user") == "page"]
    hidden = {one["name"] for one in mine["columns"] if one["allow"] is False}
    columns = audit_stream().contract.columns
    sensitive = {name for name, one in columns.items() if one.classification == "sensitive"}
    assert sensitive and sensitive <= hidden <= set(columns)
    assert of_audit.index(mine) < next(i for i, one in enumerate(of_audit) if "user" not in one)

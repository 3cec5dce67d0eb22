"""The rules follow tables, contracts, people and `access.toml`; a wrong file changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.access.rules_keeper import RulesKeeper, TableFacts, ViewFacts
from app.access.view_classes import ViewQuery
from spark_streaming.tables.announced_columns import ColumnsNotProtectedError, announce

CUSTOMERS = {"silver.customers": TableFacts({"id": "bigint", "email": "varchar"})}
TOP = ViewFacts(
    ViewQuery(["silver.customers"], "SELECT email AS who FROM silver.customers", {}),
    {"who": "varchar"},
)
CONTRACT = '[columns.email]\nclassification = "personal"\n'


class Kept:
    """A home with a contract file, and what its keeper said and waited."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.contracts = home / "contracts"
        self.contracts.mkdir()
        self.contract(CONTRACT)
        self.problems: list[str] = []
        self.waited: list[float] = []
        self.refused = ""
        self.keeper = self.made()

    def made(self) -> RulesKeeper:
        return RulesKeeper(
            self.home,
            [self.contracts],
            people=lambda: {"ana": "analyst"},
            refusal=lambda table, where: self.refused,
            report=self.problems.append,
            sleep=self.waited.append,
        )

    def contract(self, text: str) -> None:
        (self.contracts / "public.customers.toml").write_text(text)

    def update(
        self,
        tables: Mapping[str, TableFacts] = CUSTOMERS,
        views: Mapping[str, ViewFacts] | None = None,
    ) -> None:
        self.keeper.update(tables, views or {})

    def text(self) -> str:
        return (self.home / "access" / "rules.json").read_text()

    def columns(self, table: str) -> Any:
        """What the analyst's rule says of a table's columns; None without a rule."""
        for rule in json.loads(self.text())["tables"]:
            if rule.get("group") == "analyst" and rule.get("table") == table:
                return {one["name"]: one.get("mask") for one in rule.get("columns", [])}
        return None


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


MASKED = "CAST('***' AS varchar)"


def test_contract_files_count_before_the_table_says_it_itself(kept: Kept) -> None:
    kept.update()
    assert kept.columns("customers") == {"email": MASKED}
    kept.contract('[columns.email]\nclassification = "internal"\n')
    kept.update(
        {"silver.customers": TableFacts(CUSTOMERS["silver.customers"].types, {"email": "personal"})}
    )
    assert kept.columns("customers") == {}


def test_a_contract_that_is_removed_or_wrong_takes_no_mask_away(kept: Kept) -> None:
    kept.update()
    kept.contract("[columns.email\n")
    kept.update()
    (kept.contracts / "public.customers.toml").unlink()
    kept.update()
    assert kept.columns("customers") == {"email": MASKED}


def test_a_table_whose_contract_was_wrong_from_the_start_is_not_shown(kept: Kept) -> None:
    kept.contract("[columns.email\n")
    kept.update()
    assert kept.columns("customers") is None


def test_a_view_is_masked_as_its_columns_are_and_withheld_while_it_is_made_again(
    kept: Kept,
) -> None:
    kept.update(views={"reports.top": TOP})
    assert kept.columns("top") == {"who": MASKED}
    kept.keeper.withhold("reports.top")
    assert kept.columns("top") is None
    assert len(kept.waited) == 1
    kept.update(views={"reports.top": TOP})
    assert kept.columns("top") == {"who": MASKED}


def test_texts_of_ops_that_may_quote_rows_are_personal(kept: Kept) -> None:
    kept.update({"ops.quarantine": TableFacts({"table_name": "varchar", "reason": "varchar"})})
    assert kept.columns("quarantine") == {"reason": MASKED}


def test_the_audit_is_not_there_for_a_role_that_hides_what_is_sensitive(kept: Kept) -> None:
    kept.update({"ops.audit": TableFacts({"user_name": "varchar", "statement": "varchar"})})
    assert kept.columns("audit") is None
    file = kept.home / "access.toml"
    file.write_text('[roles.analyst]\nschemas = ["ops"]\nsensitive = "mask"\n')
    kept.update({"ops.audit": TableFacts({"user_name": "varchar", "statement": "varchar"})})
    assert kept.columns("audit") == {"user_name": MASKED, "statement": MASKED}


@pytest.mark.parametrize("wrong", ["[roles.analyst]\nschemas = 3\n", "[roles\n"])
def test_a_wrong_file_changes_nothing_and_is_reported_with_its_line(kept: Kept, wrong: str) -> None:
    kept.update()
    before = kept.text()
    (kept.home / "access.toml").write_text(wrong)
    kept.update()
    assert kept.text() == before
    assert "access.toml:" in kept.problems[-1]
    # Another process goes on with the roles that counted last.
    kept.keeper = kept.made()
    kept.update()
    assert kept.text() == before


def test_a_file_that_is_wrong_from_the_start_shows_people_nothing(kept: Kept) -> None:
    (kept.home / "access.toml").write_text("[roles\n")
    kept.update()
    assert kept.columns("customers") is None


def test_a_filter_that_trino_refuses_is_a_mistake_of_its_line(kept: Kept) -> None:
    kept.update()
    before = kept.text()
    kept.refused = "Column 'nothing' cannot be resolved"
    (kept.home / "access.toml").write_text(
        '[roles.analyst]\nschemas = ["silver"]\n[[roles.analyst.filters]]\n'
        'table = "silver.customers"\nwhere = "nothing = 1"\n'
    )
    kept.update()
    assert kept.text() == before
    assert "access.toml:5: Trino refuses the filter of silver.customers" in kept.problems[-1]


def test_a_filter_of_no_table_is_reported_and_the_role_sees_nothing(kept: Kept) -> None:
    (kept.home / "access.toml").write_text(
        '[roles.analyst]\nschemas = ["silver"]\n[[roles.analyst.filters]]\n'
        'table = "silver.costumers"\nwhere = "id = 1"\n'
    )
    kept.update()
    assert kept.columns("customers") is None
    assert "did you mean `silver.customers`?" in kept.problems[-1]


def test_silver_commits_a_column_only_after_the_rules_have_it(kept: Kept) -> None:
    kept.update()
    folder = str(kept.home / "access")
    seen: list[Any] = []

    def pass_meanwhile(_: float) -> None:
        kept.update()
        seen.append(kept.columns("customers"))

    announce("customers", ["Phone"], folder, sleep=pass_meanwhile)
    assert seen[0] == {"email": MASKED, "phone": "NULL"}  # its type comes with the commit


def test_a_column_of_a_table_that_nobody_is_shown_waits_for_nothing(kept: Kept) -> None:
    kept.keeper.close()
    announce("customers", ["phone"], str(kept.home / "access"), wait_s=0)
    announce("customers", ["phone"], "")  # no roles at all


def test_without_a_registrar_the_column_is_not_committed(kept: Kept) -> None:
    kept.update()
    with pytest.raises(ColumnsNotProtectedError, match="phone of customers wait"):
        announce("customers", ["phone"], str(kept.home / "access"), wait_s=0)


READS_HISTORY = """
[roles.analyst]
schemas = ["silver", "history"]
personal = "mask"
"""


def test_a_history_has_the_classes_of_its_table_from_its_first_moment(kept: Kept) -> None:
    (kept.home / "access.toml").write_text(READS_HISTORY)
    types = {**CUSTOMERS["silver.customers"].types, "_valid_from": "timestamp(3) with time zone"}
    declared = {"_valid_from": "internal"}
    kept.update({**CUSTOMERS, "history.customers": TableFacts(types, declared)})  # type: ignore[arg-type]
    found = [
        {one["name"]: one.get("mask") for one in rule.get("columns", [])}
        for rule in json.loads(kept.text())["tables"]
        if rule.get("group") == "analyst" and rule.get("schema") == "history"
    ]
    assert found == [{"email": MASKED}]

"""Trino's rules, from roles, people and the classes of columns."""

from __future__ import annotations

import json
import re
from typing import Any

from app.access.roles import Role, RowFilter
from app.access.trino_rules import ClassifiedTable, closed_rules, mask_of, rules_text
from app.environment.trino_accounts import ACCOUNTS, PROMETHEUS, SUPERSET, UNMASKED

ENGINEER = Role(writes="anywhere", schemas=["*"], personal="show", sensitive="show")
ANALYST = Role(writes="own", schemas=["silver", "reports"], personal="mask", sensitive="hide")
CUSTOMERS = ClassifiedTable(
    {"id": "internal", "email": "personal", "age": "personal", "iban": "sensitive"},
    {"id": "bigint", "email": "varchar", "age": "bigint", "iban": "varchar"},
)
VIEW = ClassifiedTable({"n": "internal"}, {"n": "bigint"}, frozenset({"silver.customers"}))


def rules(
    roles: dict[str, Role], tables: dict[str, ClassifiedTable], people: dict[str, str] | None = None
) -> dict[str, Any]:
    return dict(json.loads(rules_text(roles, people or {}, tables)))


def table_rule(found: dict[str, Any], user: str, group: str, schema: str, table: str) -> Any:
    """The rule that counts: the first that matches, as in Trino."""
    for rule in found["tables"]:
        who = re.fullmatch(rule.get("user", ".*"), user) and re.fullmatch(
            rule.get("group", ".*"), group
        )
        what = re.fullmatch(rule.get("schema", ".*"), schema) and re.fullmatch(
            rule.get("table", ".*"), table
        )
        if who and what and re.fullmatch(rule.get("catalog", ".*"), "lake"):
            return rule
    return None


def test_an_analyst_has_masks_by_class_and_type_and_reads_only() -> None:
    found = rules({"analyst": ANALYST}, {"silver.customers": CUSTOMERS})
    rule = table_rule(found, "ana", "analyst", "silver", "customers")
    assert rule["privileges"] == ["SELECT"]
    assert rule["columns"] == [
        {"name": "age", "mask": "NULL"},
        {"name": "email", "mask": "CAST('***' AS varchar)"},
        {"name": "iban", "allow": False},
    ]


def test_what_no_rule_names_is_refused() -> None:
    tables = {"silver.customers": CUSTOMERS, "ops.ledger": CUSTOMERS}
    found = rules({"analyst": ANALYST}, tables)
    for schema, table in (
        ("silver", "customers$history"),
        ("silver", "customers__v1"),
        ("silver", "customersx"),
        ("ops", "ledger"),
        ("mine", "copy"),
    ):
        assert table_rule(found, "ana", "analyst", schema, table)["privileges"] == []
    assert found["functions"][-1] == {"privileges": []}


def test_before_anything_is_known_the_accounts_work_and_people_see_nothing() -> None:
    found = json.loads(closed_rules())
    for account in UNMASKED:
        assert "SELECT" in table_rule(found, account, "", "silver", "customers")["privileges"]
    for other in ("ana", SUPERSET, PROMETHEUS):
        assert table_rule(found, other, "engineer", "silver", "customers")["privileges"] == []


def test_an_engineer_sees_all_and_only_the_registrar_writes_what_is_kept() -> None:
    found = rules({"engineer": ENGINEER}, {"silver.customers": CUSTOMERS})
    kept = table_rule(found, "eve", "engineer", "silver", "customers")
    assert kept["privileges"] == ["SELECT", "GRANT_SELECT"]
    assert "columns" not in kept
    assert "INSERT" in table_rule(found, "eve", "engineer", "mine", "t")["privileges"]
    registrar = table_rule(found, "registrar", "", "silver", "customers")
    assert registrar["privileges"] == ["OWNERSHIP", "GRANT_SELECT", "SELECT"]


def test_a_person_with_tables_of_ones_own_writes_in_one_schema() -> None:
    found = rules({"analyst": ANALYST}, {}, {"ana.b": "analyst"})
    assert "INSERT" in table_rule(found, "ana.b", "analyst", "own_ana_b", "t")["privileges"]
    # The dot of a name is no pattern.
    assert table_rule(found, "anaxb", "analyst", "own_ana_b", "t")["privileges"] == []


def test_a_filter_holds_on_its_table_and_hides_the_views_over_it() -> None:
    rows = RowFilter(table="silver.customers", where="id < 3")
    role = ANALYST.model_copy(update={"filters": [rows]})
    tables = {"silver.customers": CUSTOMERS, "reports.count": VIEW}
    found = rules({"analyst": role}, tables)
    rule = table_rule(found, "ana", "analyst", "silver", "customers")
    assert rule["filter"] == "id < 3"
    assert table_rule(found, "ana", "analyst", "reports", "count")["privileges"] == []


def test_a_filter_hides_the_history_of_its_table_which_nobody_writes() -> None:
    history = ClassifiedTable(CUSTOMERS.classes, CUSTOMERS.types, frozenset({"silver.customers"}))
    tables = {"silver.customers": CUSTOMERS, "history.customers": history}
    plain = ANALYST.model_copy(update={"schemas": ["silver", "history"]})
    rows = RowFilter(table="silver.customers", where="id < 3")
    for role, privileges in (
        (plain, ["SELECT"]),
        (plain.model_copy(update={"filters": [rows]}), []),
    ):
        found = rules({"analyst": role}, tables)
        rule = table_rule(found, "ana", "analyst", "history", "customers")
        assert rule["privileges"] == privileges
    found = rules({"engineer": ENGINEER}, tables)
    rule = table_rule(found, "eva", "engineer", "history", "customers")
    assert rule["privileges"] == ["SELECT", "GRANT_SELECT"]


def test_a_role_whose_filter_names_no_table_sees_none() -> None:
    role = Role.model_validate(
        {"schemas": ["silver"], "filters": [{"table": "silver.costumers", "where": "id < 3"}]}
    )
    found = rules({"analyst": role}, {"silver.customers": CUSTOMERS})
    assert table_rule(found, "ana", "analyst", "silver", "customers")["privileges"] == []


def test_superset_asks_as_people_and_as_no_account() -> None:
    accounts, superset, others = json.loads(closed_rules())["impersonation"]
    assert all(re.fullmatch(accounts["new_user"], account) for account in ACCOUNTS)
    assert not re.fullmatch(accounts["new_user"], "registrars")
    assert (accounts["original_user"], accounts["allow"]) == (".*", False)
    assert (superset["original_user"], superset["new_user"]) == (SUPERSET, ".*")
    assert others == {"original_user": ".*", "new_user": ".*", "allow": False}


def test_a_mask_has_the_columns_type() -> None:
    assert mask_of("varchar(2)") == "CAST('***' AS varchar(2))"
    assert mask_of("array(varchar)") == mask_of("") == "NULL"


def test_the_same_input_gives_the_same_text() -> None:
    roles = {"engineer": ENGINEER, "analyst": ANALYST}
    one = rules_text(
        roles, {"a": "analyst"}, {"silver.customers": CUSTOMERS, "reports.count": VIEW}
    )
    other = rules_text(
        dict(reversed(roles.items())),
        {"a": "analyst"},
        {"reports.count": VIEW, "silver.customers": CUSTOMERS},
    )
    assert one == other

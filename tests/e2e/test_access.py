"""Roles in a stack with `access = "signed"`: planted values are searched for in all of Trino's answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from deltalake import write_deltalake

from app.access.accounts import own_schema
from app.environment.loopback import direct_session
from spark_streaming.storage.lake import Lake
from tests.support.signed_in_trino import Answer, ask
from tests.support.stack import ROOT, Stack, fresh_stack
from tests.support.waiting import until

MASK = "***"
SOON_S = 180.0  # generous: machines are noisy
CANARIES = ("canary-email@planted.example", "Canary Planted Name", "1901-02-03", "canary-phone")
ANA, EVE = "ana.b", "eve"


@dataclass
class People:
    """A stack with signed access, and the password of each of its users."""

    stack: Stack
    passwords: dict[str, str]

    def ask(self, user: str, sql: str, *, of: str = "") -> Answer:
        return ask(self.stack.settings, user, self.passwords[user], sql, of=of)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    before = dict(os.environ)  # the home's settings make this process trust its authority
    try:
        with fresh_stack() as fresh:
            profile = tmp_path_factory.mktemp("profile") / "signed.toml"
            shipped = (ROOT / "profiles" / "signed.toml").read_text()
            profile.write_text(f"{shipped}audit = true\n")
            fresh.up("--profile", str(profile), "--only", "tables", "silver", "capture", "streams")
            passwords = {ANA: "the password of ana", EVE: add(fresh, EVE, "engineer")}
            with fresh.start("users", "add", ANA, "--role", "analyst", stdin=-1) as process:
                _, err = process.communicate(f"{passwords[ANA]}\n", timeout=60)
            assert process.returncode == 0, err
            with fresh.source() as source:
                source.execute(
                    "UPDATE customers SET email = %s, full_name = %s, birth_date = %s "
                    "WHERE customer_id = 1",
                    CANARIES[:3],
                )
            known = People(fresh, passwords)
            until(
                lambda: known.ask(EVE, "SELECT email FROM customers WHERE customer_id = 1").rows,
                lambda rows: rows == [[CANARIES[0]]],
                within_s=SOON_S,
                what="the planted address, for the engineer",
            )
            keep_a_copy(fresh)
            until(
                lambda: known.ask(ANA, "SELECT count(*) FROM silver.customers__v1"),
                lambda answer: not answer.error,
                within_s=SOON_S,
                what="a copy of the table",
            )
            until(
                lambda: known.ask(ANA, "SELECT count(*) FROM reports.top_customers"),
                lambda answer: not answer.error,
                within_s=SOON_S,
                what="rules for the views",
            )
            yield known
    finally:
        os.environ.clear()
        os.environ.update(before)


def keep_a_copy(stack: Stack) -> None:
    """A copy as `new_version` leaves it: the table's rows under another name, without its classes."""
    lake = Lake(stack.settings.store)
    write_deltalake(
        lake.url("silver/customers__v1"),
        lake.table("silver/customers").to_pyarrow_table(),
        storage_options=lake.storage_options(),
    )


def add(stack: Stack, name: str, role: str) -> str:
    return stack.run("users", "add", name, "--role", role, "--generate").stdout.strip()


def planted(content: bytes) -> list[str]:
    return [one for one in CANARIES if one.encode() in content]


def test_nobody_asks_without_a_password_or_with_another(people: People) -> None:
    settings = people.stack.settings
    wrong = ask(settings, EVE, people.passwords[ANA], "SELECT 1")
    assert wrong.error.startswith("HTTP 401")
    address = f"https://{settings.ports.address('trino')}"
    anonymous = direct_session().post(
        f"{address}/v1/statement", data=b"SELECT 1", headers={"X-Trino-User": EVE}, timeout=10
    )
    assert anonymous.status_code == 401
    page = direct_session().get(f"{address}/ui/", timeout=10)
    assert page.url.endswith("/ui/disabled.html")
    for path in ("/ui/api/query", "/ui/api/stats", "/ui/api/cluster", "/v1/query", "/v1/node"):
        assert direct_session().get(f"{address}{path}", timeout=10).status_code in (401, 404), path
    with pytest.raises(requests.RequestException):
        direct_session().get(f"http://{settings.ports.address('trino')}/v1/info", timeout=10)


def test_a_refused_sign_in_is_in_the_audit_with_its_name_and_no_password(people: People) -> None:
    name = "nobody.at.all"
    assert ask(people.stack.settings, name, CANARIES[0], "SELECT 1").error.startswith("HTTP 401")
    sql = f"SELECT query_type, queries, detail FROM ops.audit WHERE kind = 'refused' AND user_name = '{name}'"
    found = until(lambda: people.ask(EVE, sql).rows, within_s=SOON_S, what="the refused sign-in")
    assert found == [["sign-in", 1, None]]


def test_each_signs_in_by_the_command_line_and_the_stack_by_itself(people: People) -> None:
    sql = ("sql", "SELECT email FROM customers WHERE customer_id = 1")
    assert people.stack.answer(*sql) == [{"email": CANARIES[0]}]
    people.stack.environment["HEADWATER_TRINO_PASSWORD"] = people.passwords[ANA]
    try:
        assert people.stack.answer(*sql, "--user", ANA) == [{"email": MASK}]
        refused = people.stack.run(*sql, "--user", EVE, expect=1)
        assert "refused the sign-in" in refused.stderr
    finally:
        del people.stack.environment["HEADWATER_TRINO_PASSWORD"]
    assert people.stack.answer("users", "list") == [
        {"name": ANA, "role": "analyst"},
        {"name": EVE, "role": "engineer"},
    ]
    assert "CREATE TABLE" in people.stack.run("sql", "SHOW CREATE TABLE customers").stdout


MINE = own_schema(ANA)
WAYS = (
    "SELECT * FROM silver.customers",
    "SELECT email, full_name, birth_date FROM silver.customers",
    "SELECT lower(email), length(full_name), array_agg(email) OVER () FROM silver.customers",
    "SELECT max_by(email, customer_id), min(full_name), min(birth_date) FROM silver.customers",
    "SELECT email FROM silver.customers FOR VERSION AS OF 1",
    "SELECT email FROM silver.customers FOR TIMESTAMP AS OF current_timestamp",
    "SELECT * FROM TABLE(lake.system.table_changes('silver', 'customers', 1))",
    'SELECT * FROM silver."customers$history"',
    'SELECT * FROM silver."customers$properties"',
    'SELECT * FROM silver."customers$partitions"',
    "SHOW STATS FOR silver.customers",
    "SHOW STATS FOR (SELECT email FROM silver.customers)",
    "SELECT CAST(email AS integer) FROM silver.customers",
    "SELECT fail(email) FROM silver.customers",
    "EXPLAIN ANALYZE SELECT email FROM silver.customers",
    "EXPLAIN (TYPE IO) SELECT email FROM silver.customers",
    "SHOW CREATE TABLE silver.customers",
    "SELECT * FROM reports.top_customers",
    f"CREATE TABLE {MINE}.copied AS SELECT * FROM silver.customers",
    f"SELECT * FROM {MINE}.copied",
    f"CREATE VIEW {MINE}.mine AS SELECT * FROM silver.customers",
    f"SELECT * FROM {MINE}.mine",
    f"CREATE VIEW {MINE}.over AS SELECT full_name FROM reports.top_customers",
    f"SELECT * FROM {MINE}.over",
    f"CREATE VIEW {MINE}.as_asked SECURITY INVOKER AS SELECT * FROM {MINE}.mine",
    f"SELECT * FROM {MINE}.as_asked",
    "CALL lake.system.register_table('{MINE}', 'taken', '{LAKE}/silver/customers')",
    f"CREATE TABLE {MINE}.taken (email varchar) WITH (location = '{{LAKE}}/silver/customers')",
    f"SELECT * FROM {MINE}.taken",
    "CREATE SCHEMA lake.other WITH (location = '{LAKE}/silver')",
    "CREATE TABLE reports.copied AS SELECT 1 AS n",
    "CREATE TABLE default.copied AS SELECT 1 AS n",
    "CREATE FUNCTION silver.f() RETURNS integer RETURN 1",
    "SELECT * FROM silver.customers__v1",
    "SELECT * FROM theirs.copied",
    "SELECT * FROM theirs.seen",
    "SELECT * FROM ops.quarantine",
    "SELECT * FROM ops.columns",
    "SELECT * FROM ops.audit",
    "SELECT count(*) FROM ops.audit",
    "SELECT * FROM system.runtime.queries",
    "SELECT * FROM system.metadata.table_comments WHERE catalog_name = 'lake'",
    "SELECT * FROM lake.information_schema.columns",
    "SELECT * FROM lake.information_schema.views",
    "ALTER VIEW reports.top_customers SET AUTHORIZATION \"ana.b\"",
    "SET SESSION AUTHORIZATION registrar",
    "GRANT SELECT ON silver.customers TO USER \"ana.b\"",
    "INSERT INTO silver.customers (customer_id) VALUES (0)",
    "DELETE FROM silver.customers",
)  # fmt: skip


def test_no_planted_value_is_in_any_byte_that_an_analyst_is_answered(people: People) -> None:
    for sql in (
        "CREATE SCHEMA IF NOT EXISTS lake.theirs",
        "CREATE TABLE theirs.copied AS SELECT * FROM silver.customers",
        "CREATE VIEW theirs.seen AS SELECT * FROM silver.customers",
        f"SELECT '{CANARIES[0]}' AS typed",
    ):
        assert people.ask(EVE, sql).error == ""
    assert planted(people.ask(EVE, "SELECT * FROM theirs.seen").content) == list(CANARIES[:3])
    store = people.stack.settings.store
    found = {}
    for sql in WAYS:
        text = sql.replace("{LAKE}", f"s3://{store.lake_bucket}").replace("{MINE}", MINE)
        answer = people.ask(ANA, text)
        found[text] = answer
        assert planted(answer.content) == [], text
    refused = {text for text, answer in found.items() if answer.error}
    # Her own tables and views work, with masks; everything that needs more than reading is refused.
    mine = found["SELECT * FROM silver.customers"]
    assert mine.rows, mine.error
    assert all(MASK in row for row in mine.rows)
    for text in (f"SELECT * FROM {MINE}.copied", "SELECT * FROM silver.customers__v1", f"SELECT * FROM {MINE}.over",
                 "SELECT * FROM reports.top_customers", "SELECT * FROM ops.columns"):  # fmt: skip
        assert text not in refused, found[text].error
        assert found[text].rows
    for word in ("table_changes", "$history", "$properties", "$partitions", "register_table",
                 "CREATE SCHEMA", "reports.copied", "default.copied", "FUNCTION", "theirs.",
                 "ops.audit", "AUTHORIZATION", "INSERT", "DELETE", "GRANT", ".taken"):  # fmt: skip
        assert [text for text in found if word in text and text not in refused] == [], word


def test_the_audit_says_who_signed_in_and_what_was_masked_and_the_stack_has_accounts(
    people: People,
) -> None:
    people.ask(ANA, "SELECT email FROM silver.customers WHERE country = 'planted'")
    sql = (
        "SELECT principal, groups, masks FROM ops.audit"
        f" WHERE user_name = '{ANA}' AND statement LIKE '%country = ''planted''%'"
    )
    [[principal, groups, masks]] = until(
        lambda: people.ask(EVE, sql).rows, within_s=SOON_S, what="her question, in the audit"
    )
    assert (principal, groups) == (ANA, "analyst")
    assert MASK in masks
    until(
        lambda: people.ask(EVE, "SELECT user_name, source FROM ops.audit WHERE kind = 'sum'").rows,
        lambda rows: ["audit", "headwater-audit"] in rows,
        within_s=SOON_S,
        what="the audit's own account",
    )
    sql = f"SELECT query_type FROM ops.audit WHERE kind = 'change' AND statement LIKE '%{ANA}%'"
    added = until(lambda: people.ask(EVE, sql).rows, within_s=SOON_S, what="who was added")
    assert ["users add"] in added


def test_a_condition_on_a_masked_column_sees_the_mask(people: People) -> None:
    sql = f"SELECT count(*) FROM silver.customers WHERE email = '{CANARIES[0]}'"
    assert people.ask(EVE, sql).rows == [[1]]
    assert people.ask(ANA, sql).rows == [[0]]


def test_nobody_asks_as_somebody_else_but_superset_as_people(people: People) -> None:
    as_eve = people.ask(ANA, "SELECT email FROM silver.customers", of=EVE)
    assert "cannot impersonate user eve" in as_eve.error + as_eve.content.decode()
    settings = people.stack.settings
    secret = settings.secret("trino_superset_password")
    sql = "SELECT email FROM customers WHERE customer_id = 1"
    assert ask(settings, "superset", secret, sql, of=ANA).rows == [[MASK]]
    assert ask(settings, "superset", secret, sql, of="admin").rows == [[CANARIES[0]]]
    assert "Access Denied" in ask(settings, "superset", secret, sql).error
    registrar = ask(settings, "superset", secret, sql, of="registrar")
    assert "cannot impersonate" in registrar.error


def test_a_column_that_comes_beside_personal_ones_is_never_seen_before_it_is_classified(
    people: People,
) -> None:
    stop, seen, asked = threading.Event(), list[str](), list[int]()

    def look() -> None:
        while not stop.is_set():
            answer = people.ask(ANA, "SELECT * FROM silver.customers WHERE customer_id < 3")
            asked.append(len(answer.rows))
            seen.extend(planted(answer.content))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with people.stack.source() as source:
            source.execute(f"ALTER TABLE customers ADD phone text DEFAULT '{CANARIES[3]}'")
            source.execute("UPDATE customers SET country = country WHERE customer_id = 1")
        sql = "SELECT phone FROM silver.customers WHERE customer_id = 1"
        until(
            lambda: people.ask(EVE, sql).rows,
            lambda rows: rows == [[CANARIES[3]]],
            within_s=SOON_S,
            what="the new column, for the engineer",
        )
        until(lambda: people.ask(ANA, sql).rows, lambda rows: rows == [[MASK]], within_s=SOON_S,
              what="the new column, masked")  # fmt: skip
    finally:
        stop.set()
        looking.join()
    assert seen == []
    assert len(asked) > 3
    # After it is classified in a contract file, that class applies.
    folder = people.stack.settings.contracts_dir
    folder.mkdir(exist_ok=True)
    shipped = (ROOT / "spark_streaming/contracts/public.customers.toml").read_text()
    (folder / "public.customers.toml").write_text(
        shipped.replace("[columns.country]", '[columns.phone]\nclassification = "public"\n[columns.country]')
    )  # fmt: skip
    until(lambda: people.ask(ANA, sql).rows, lambda rows: rows == [[CANARIES[3]]], within_s=SOON_S,
          what="the classified column")  # fmt: skip


def test_a_file_of_ones_own_counts_and_a_wrong_one_changes_nothing_and_is_named(
    people: People,
) -> None:
    file = people.stack.home / "access.toml"
    file.write_text(
        '[roles.analyst]\nwrites = "own"\nschemas = ["silver", "reports"]\npersonal = "hide"\n'
        "[[roles.analyst.filters]]\n"
        'table = "silver.customers"\nwhere = "customer_id <= 2"\n'
    )
    sql = "SELECT * FROM silver.customers"
    until(lambda: len(people.ask(ANA, sql).rows), lambda count: count == 2, within_s=SOON_S,
          what="the rows of the filter")  # fmt: skip
    answer = people.ask(ANA, sql)
    assert [
        one for one in planted(answer.content) if one != CANARIES[3]
    ] == []  # that column is public
    assert MASK not in answer.content.decode()
    assert "email" not in answer.content.decode()
    assert "Access Denied" in people.ask(ANA, "SELECT email FROM silver.customers").error
    # A view would show the rows that the filter removes, so the role does not see the view.
    assert people.ask(ANA, "SELECT * FROM reports.top_customers").error
    for wrong, line, said in (
        ('where = "no_such_column = 1"\n', 7, "no_such_column"),
        ('whare = "customer_id <= 3"\n', 7, "whare"),
    ):
        good = file.read_text()
        file.write_text(good.replace('where = "customer_id <= 2"\n', wrong))
        row = until(
            lambda: people.stack.status()["tables"],
            lambda row, said=said: said in row["last_error"],  # type: ignore[misc]
            within_s=SOON_S,
            what="the mistake, in status",
        )
        assert f"access.toml:{line}" in row["last_error"]
        assert len(people.ask(ANA, sql).rows) == 2
        file.write_text(good)
    file.unlink()
    until(lambda: people.ask(ANA, sql).rows, lambda rows: len(rows) > 2, within_s=SOON_S,
          what="the shipped role again")  # fmt: skip


def test_a_killed_trino_comes_back_with_its_rules_and_a_removed_user_is_refused(
    people: People,
) -> None:
    people.stack.kill("trino")
    until(
        lambda: people.ask(ANA, "SELECT email FROM customers WHERE customer_id = 1"),
        lambda answer: answer.rows == [[MASK]],
        within_s=180,
        what="a masked answer after the kill",
    )
    people.stack.run("users", "remove", ANA)
    until(lambda: people.ask(ANA, "SELECT 1").error, lambda error: "401" in error, within_s=SOON_S,
          what="a refused sign-in")  # fmt: skip


def test_no_password_is_in_a_log_or_a_file_that_others_may_read(people: People) -> None:
    settings = people.stack.settings
    secrets = [
        *people.passwords.values(),
        *(settings.secret(f"trino_{name}_password") for name in ("headwater", "registrar")),
    ]
    for log in people.stack.home.glob("run/*/*.log"):
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
    for path in people.stack.home.glob("access/*"):
        if path.is_file() and not path.name.startswith("."):
            assert path.stat().st_mode & 0o077 == 0, path

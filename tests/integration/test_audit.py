"""Queries to Trino are in ops.audit; with a real Kafka, Trino and object store, without a source."""

from __future__ import annotations

import getpass
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import trino.exceptions

from app.query.trino_connection import connect
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SOON_S = 60.0  # ten seconds are promised; machines are noisy
PEOPLE = (
    "CREATE TABLE lake.mine.people AS "
    "SELECT * FROM (VALUES (1, 'a@x.org'), (2, 'b@x.org')) AS t(id, email)"
)


def ask(stack: Stack, user: str, statement: str) -> str:
    """Send a query to Trino; returns its id."""
    with closing(connect(stack.settings.trino_url, user=user, source="test")) as connection:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
            cursor.fetchall()
        except trino.exceptions.TrinoUserError as error:
            return str(error.query_id)
        return str(cursor.query_id)


def row_of(stack: Stack, query_id: str, *columns: str) -> tuple[Any, ...]:
    """Wait for the one row of a query."""
    statement = f"SELECT {', '.join(columns)} FROM ops.audit WHERE query_id = '{query_id}'"
    [row] = until(lambda: stack.query(statement), within_s=SOON_S, what=f"{query_id} in the audit")
    return row


def covered(stack: Stack, ids: list[str]) -> set[str]:
    """The ids that have a row, or whose number is in a gap."""
    rows = {one for (one,) in stack.query("SELECT query_id FROM ops.audit WHERE kind = 'query'")}
    gaps = stack.query("SELECT series, numbers FROM ops.audit WHERE kind = 'gap'")
    named = set()
    for series, numbers in gaps:
        first, _, last = numbers.partition("-")
        named |= {(series, n) for n in range(int(first), int(last or first) + 1)}

    def has_gap(one: str) -> bool:
        day, _, number, coordinator = one.split("_")
        return (f"{coordinator}/{day}", int(number)) in named

    return {one for one in ids if one in rows or has_gap(one)}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, the object store, Trino, the registrar and `streams`, with the audit."""
    profile = tmp_path_factory.mktemp("profile") / "audited.toml"
    profile.write_text("audit = true\n")
    with fresh_stack() as fresh:
        fresh.up("--profile", str(profile), "--only", "tables", "streams")
        ask(fresh, "ana", "CREATE SCHEMA lake.mine")
        ask(fresh, "ana", PEOPLE)
        until(
            lambda: fresh.query("SELECT 1 FROM ops.audit LIMIT 1"),
            within_s=SOON_S,
            what="ops.audit in Trino",
        )
        yield fresh


def test_a_question_is_a_row_with_what_it_read_and_how_it_was_answered(audited: Stack) -> None:
    statement = "SELECT email FROM lake.mine.people WHERE id = 2"
    found = row_of(
        audited, ask(audited, "bob", statement),
        "kind", "user_name", "source", "client_address", "statement", "query_type", "state", "error", "tables",
        "columns", "rows", "queries", "failed",
    )  # fmt: skip
    assert found == (
        "query", "bob", "test", "127.0.0.1", statement, "SELECT", "FINISHED", None, "mine.people",
        "mine.people.email, mine.people.id", 1, 1, 0,
    )  # fmt: skip


def test_what_lies_beneath_a_view_and_what_was_written_are_named(audited: Stack) -> None:
    ask(audited, "ana", "CREATE VIEW lake.mine.adults AS SELECT email FROM lake.mine.people")
    tables, columns = row_of(
        audited,
        ask(audited, "ana", "SELECT count(email) FROM lake.mine.adults"),
        "tables",
        "columns",
    )
    assert {"mine.adults", "mine.people"} <= set(tables.split(", "))
    assert "mine.people.email" in columns.split(", ")
    made = ask(audited, "ana", "CREATE TABLE lake.mine.copy AS SELECT id FROM lake.mine.people")
    assert row_of(audited, made, "written", "query_type") == ("mine.copy", "INSERT")


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("DELETE FROM lake.ops.verification", "PERMISSION_DENIED"),
        ("SELECT nothing FROM lake.mine.people", "COLUMN_NOT_FOUND"),
        ("SELEC 1", "SYNTAX_ERROR"),
        ("SELECT 1 / (id - id) FROM lake.mine.people", "DIVISION_BY_ZERO"),
    ],
)
def test_a_question_that_fails_is_a_row_with_its_text_and_error(
    audited: Stack, statement: str, error: str
) -> None:
    found = row_of(
        audited,
        ask(audited, "bob", statement),
        "user_name",
        "statement",
        "state",
        "error",
        "failed",
    )
    assert found == ("bob", statement, "FAILED", error, 1)


def test_the_stacks_own_questions_are_in_sums(audited: Stack) -> None:
    sums = until(
        lambda: audited.query(
            "SELECT user_name, source, sum(queries) FROM ops.audit WHERE kind = 'sum' GROUP BY 1, 2"
        ),
        lambda found: {row[1] for row in found} >= {"headwater-registrar", "headwater-audit"},
        within_s=150,
        what="sums of the registrar and the audit",
    )
    assert all(count > 0 for _, _, count in sums)
    alone = "SELECT count(*) FROM ops.audit WHERE kind = 'query' AND source = 'headwater-registrar'"
    assert audited.query(alone) == [(0,)]


def test_texts_of_questions_are_for_the_owner_and_auditors_only(audited: Stack) -> None:
    statement = "SELECT statement FROM lake.ops.audit LIMIT 1"
    assert row_of(audited, ask(audited, "auditor", statement), "state") == ("FINISHED",)
    for other in ("page", "superset", "ana"):
        assert row_of(audited, ask(audited, other, statement), "error") == ("PERMISSION_DENIED",)


def test_the_page_sees_who_asked_and_no_text(audited: Stack) -> None:
    allowed = "SELECT user_name, count(*) FROM ops.audit WHERE tables = 'mine.people' GROUP BY 1"
    assert row_of(audited, ask(audited, "page", allowed), "state") == ("FINISHED",)
    for column in ("error_message", "filters", "detail", "*"):
        refused = ask(audited, "page", f"SELECT {column} FROM ops.audit")
        assert row_of(audited, refused, "error") == ("PERMISSION_DENIED",), column


def test_a_changed_rule_is_a_row(audited: Stack) -> None:
    file = audited.home / "access.toml"
    file.write_text('[roles.visitor]\nschemas = ["reports"]\npersonal = "show"\n')
    try:
        [row] = until(
            lambda: audited.query(
                "SELECT query_type, user_name, detail FROM ops.audit WHERE kind = 'change' "
                f"AND statement = '{file}'"
            ),
            within_s=SOON_S,
            what="the changed rules in the audit",
        )
    finally:
        file.unlink()
    assert row[:2] == ("rules added", getpass.getuser())
    assert '"roles.visitor.personal": "added: show"' in row[2]


def test_a_verb_that_reads_beside_trino_is_a_row(audited: Stack) -> None:
    address = f"s3://{audited.settings.store.lake_bucket}/ops/verification"
    # It waits for Kafka for only two seconds, which may be too short on a busy machine.
    until(
        lambda: audited.run("read", address).stderr,
        lambda told: "not recorded in the audit" not in told,
        within_s=SOON_S,
        what="a verb that is recorded",
    )
    until(
        lambda: audited.query(
            "SELECT 1 FROM ops.audit WHERE kind = 'verb' AND query_type = 'read' "
            f"AND tables = '{address}' AND user_name <> ''"
        ),
        within_s=SOON_S,
        what="the verb in the audit",
    )


@pytest.mark.slow
def test_questions_asked_while_kafka_and_streams_are_killed_are_all_there_once(
    audited: Stack,
) -> None:
    ids: list[str] = []
    stop = threading.Event()

    def go_on_asking() -> None:
        while not stop.is_set():
            ids.append(ask(audited, "load", f"SELECT {len(ids)}"))
            time.sleep(0.05)

    asking = threading.Thread(target=go_on_asking)
    asking.start()
    try:
        audited.kill("kafka")
        audited.kill("streams")
    finally:
        stop.set()
        asking.join()
    assert len(ids) > 50
    until(
        lambda: set(ids) - covered(audited, ids),
        lambda missing: not missing,
        within_s=150,
        what=f"{len(ids)} questions in the audit",
    )
    repeated = "SELECT event_key FROM ops.audit GROUP BY event_key HAVING count(*) > 1"
    assert audited.query(repeated) == []


@pytest.mark.slow
def test_trino_starts_without_kafka_and_a_gap_names_what_was_asked_meanwhile(
    audited: Stack,
) -> None:
    with audited.without("kafka"):
        audited.kill("trino", by=signal.SIGKILL)
        assert audited.query("SELECT 1") == [(1,)]
        ids = [ask(audited, "unheard", f"SELECT {number}") for number in range(20)]
        verb = audited.run("read", f"s3://{audited.settings.store.lake_bucket}/ops/verification")
        assert "not recorded in the audit" in verb.stderr
    until(
        lambda: covered(audited, ids),
        lambda found: found == set(ids),
        within_s=300,
        what="a gap over 20 questions",
    )
    audited.kill("trino", by=signal.SIGKILL)
    assert row_of(audited, ask(audited, "heard", "SELECT 1"), "user_name") == ("heard",)

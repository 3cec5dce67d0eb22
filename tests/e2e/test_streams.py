"""The stack's own logs and runs on the whole chain: bronze, silver, Trino, each event once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.intake import intake_of
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 120.0
STARTED = ("log-sender", "intake", "streams")


@pytest.fixture(scope="module")
def sending(stack: Stack) -> Iterator[Stack]:
    """The shared stack, which sends its logs in these tests."""
    stack.up("--send-logs")
    yield stack
    stack.stop(*STARTED)


def test_an_incident_can_be_examined_in_sql(sending: Stack) -> None:
    states = until(
        lambda: dict(
            sending.query(
                "SELECT service, max_by(state, event_time) FROM app_runs GROUP BY service"
            )
        ),
        lambda found: found.get("log-sender") == "ready",
        within_s=SOON_S,
        what="the run of log-sender",
    )
    assert {"kafka": "ready", "trino": "ready", "store": "completed"}.items() <= states.items()
    until(
        lambda: sending.query(
            "SELECT l.message FROM app_logs l JOIN app_runs r ON l.run_id = r.run_id "
            "WHERE r.service = 'silver' AND r.state = 'ready' "
            "AND l.day >= current_date - INTERVAL '1' DAY LIMIT 1"
        ),
        within_s=SOON_S,
        what="silver's own words",
    )


def test_lines_that_are_sent_again_by_hand_are_there_once(sending: Stack) -> None:
    ended = sending.run("logs", "trino", "--send", "--lines", "20")
    assert "of trino to lake.silver.app_logs" in ended.stderr
    sending.run("logs", "trino", "--send", "--lines", "20")
    own = {"service": "test", "message": "after the others"}
    intake_of(sending, "app_logs").post([{"key": "e2e-after", "data": own}], SOON_S)
    until(
        lambda: sending.query("SELECT 1 FROM app_logs WHERE event_key = 'e2e-after'"),
        within_s=SOON_S,
        what="an event that came after them",
    )
    for table in ("app_logs", "app_runs"):
        repeated = f"SELECT event_key FROM {table} GROUP BY event_key HAVING count(*) > 1"
        assert sending.query(repeated) == []


def test_bronze_has_every_event_and_verify_says_that_streams_have_no_source(
    sending: Stack,
) -> None:
    rows = sending.answer("verify", "--bronze", "app_logs", "app_runs")
    assert {row["topic"] for row in rows} == {"hw.stream-app_logs", "hw.stream-app_runs"}
    assert {row["verdict"] for row in rows} == {"complete"}
    assert all(row["records"] > 0 for row in rows)
    told = sending.run("verify", "--sample", "10", expect=None).stderr
    assert "left out, for no source has them: the streams app_logs, app_runs" in told
    refused = sending.run("verify", "app_logs", expect=3).stderr
    assert "`verify --bronze` checks its topic" in refused
    listed = sending.answer("streams", "list")
    assert {row["table"] for row in listed} >= {"lake.silver.app_logs", "lake.silver.app_runs"}

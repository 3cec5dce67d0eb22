"""The audit's cost for a query, the time until a query has its row, and that no query is lost without Kafka.

Two stacks of Kafka, the object store, Trino and the registrar run side by side; one of them has the audit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import trino.dbapi

from app.query.trino_connection import connect
from tests.support.measure import percentiles, report, watched
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

WARM_UP, LOOK_UPS, PROBES = 200, 300, 40
WITHOUT_KAFKA, WITHOUT_KAFKA_S = 1_000, 60.0
TABLE = (
    "CREATE TABLE lake.mine.numbers AS SELECT a * 1000 + b AS id, a AS x FROM "
    "UNNEST(sequence(0, 99)) AS t(a) CROSS JOIN UNNEST(sequence(0, 999)) AS u(b)"
)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Stack]]:
    """Without the audit, and with it."""
    profile = tmp_path_factory.mktemp("profile") / "audited.toml"
    profile.write_text("audit = true\n")
    with fresh_stack() as plain, fresh_stack() as audited:
        plain.up("--only", "tables", "kafka")
        audited.up("--profile", str(profile), "--only", "tables", "streams")
        for stack in (plain, audited):
            stack.query("CREATE SCHEMA lake.mine")
            stack.query(TABLE)
        until(
            lambda: audited.query("SELECT 1 FROM ops.audit LIMIT 1"), within_s=90, what="ops.audit"
        )
        yield plain, audited


def look_up(connection: trino.dbapi.Connection, number: int) -> tuple[float, str]:
    """Query one row. Returns: the seconds, and the query's id."""
    cursor = connection.cursor()
    began = time.monotonic()
    cursor.execute(f"SELECT x FROM lake.mine.numbers WHERE id = {number}")
    assert cursor.fetchall() == [[number // 1000]]
    return time.monotonic() - began, str(cursor.query_id)


def test_a_point_look_up_with_and_without_the_audit(stacks: tuple[Stack, Stack]) -> None:
    plain, audited = stacks
    spent: dict[str, list[float]] = {"without": [], "with": []}
    with (
        closing(connect(plain.settings.trino_url)) as first,
        closing(connect(audited.settings.trino_url)) as second,
        watched(plain, {"trino"}) as memory_without,
        watched(audited, {"trino", "streams"}) as memory_with,
    ):
        for number in range(WARM_UP + LOOK_UPS):
            turns = [("without", first), ("with", second)]
            for name, connection in turns if number % 2 else reversed(turns):
                seconds, _ = look_up(connection, number * 137 % 100_000)
                if number >= WARM_UP:
                    spent[name].append(seconds)
    report(
        "governance_look_up",
        {
            **{f"{name}_s": percentiles(values) for name, values in spent.items()},
            "trino_mib_without": memory_without.peak_mib,
            "mib_with": memory_with.peak_mib,
            "cpu_s_without": memory_without.cpu_s,
            "cpu_s_with": memory_with.cpu_s,
        },
    )


def test_how_soon_a_question_is_a_row(stacks: tuple[Stack, Stack]) -> None:
    _, audited = stacks
    delays = []
    with closing(connect(audited.settings.trino_url)) as connection:
        for number in range(PROBES):
            _, query_id = look_up(connection, number)
            ended = time.monotonic()
            until(
                lambda wanted=query_id: audited.query(  # type: ignore[misc]
                    f"SELECT 1 FROM ops.audit WHERE query_id = '{wanted}'"
                ),
                within_s=60,
                what=query_id,
                every_s=0.1,
            )
            delays.append(time.monotonic() - ended)
    report("governance_audit_delay", {"answer_to_row_in_trino_s": percentiles(delays)})


def test_of_a_thousand_questions_without_kafka_none_is_missing(
    stacks: tuple[Stack, Stack],
) -> None:
    _, audited = stacks
    with audited.without("kafka"):
        began = time.monotonic()
        ids = []
        with closing(connect(audited.settings.trino_url)) as connection:
            for number in range(WITHOUT_KAFKA):
                ids.append(look_up(connection, number)[1])
                due = began + number * WITHOUT_KAFKA_S / WITHOUT_KAFKA
                time.sleep(max(0.0, due - time.monotonic()))
        away_s = time.monotonic() - began
    back = time.monotonic()
    missing = until(
        lambda: missing_of(audited, ids),
        lambda found: found["without_row"] == found["in_gaps"],
        within_s=300,
        what="all questions in rows or gaps",
        every_s=1.0,
    )
    report(
        "governance_without_kafka",
        {"questions": len(ids), "away_s": round(away_s), "complete_after_s": round(time.monotonic() - back, 1)}
        | missing,
    )  # fmt: skip
    assert missing["without_row"] == 0


def missing_of(stack: Stack, ids: list[str]) -> dict[str, Any]:
    """The number of queries without a row, and how many of those are in a gap."""
    rows = stack.query("SELECT query_id FROM ops.audit WHERE kind = 'query'")
    without = set(ids) - {one for (one,) in rows}
    named = set()
    for series, numbers in stack.query("SELECT series, numbers FROM ops.audit WHERE kind = 'gap'"):
        first, _, last = numbers.partition("-")
        named |= {f"{series}:{n}" for n in range(int(first), int(last or first) + 1)}
    parts = [one.split("_") for one in without]
    in_gaps = sum(
        f"{coordinator}/{day}:{int(number)}" in named for day, _, number, coordinator in parts
    )
    return {"without_row": len(without), "in_gaps": in_gaps}

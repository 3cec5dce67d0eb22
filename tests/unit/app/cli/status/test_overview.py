"""`status --check` and `status --format json`: which states count as problems, and the data for scripts."""

from __future__ import annotations

from typing import Any

import pytest

from app.cli.status.overview import Overview
from app.health.problem import Problem
from app.launcher.observed_status import Row

ASKED = ["kafka", "silver"]


def service(name: str, state: str = "ready", error: str = "") -> Row:
    return Row(name, state, 7, "1", 10, 60, 0, error)


def seen(**more: Any) -> Overview:
    rows = [service("kafka"), service("silver"), service("verifier", "stopped")]
    return Overview(**{"services": rows, "asked": ASKED, **more})


def test_a_stack_whose_services_are_ready_is_well_whatever_else_nobody_asked_for() -> None:
    unknown = {"kind": "unknown", "service": "alerts", "state": "not known", "last_error": "off"}
    assert seen(alerts=[unknown]).reasons() == []


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"services": [service("kafka", "failed", "exit\ncode 1")]}, "kafka: failed: exit code 1"),
        ({"services": [service("silver", "starting")]}, "silver: starting"),
        ({"services": [service("silver", "unresponsive", "x")]}, "silver: unresponsive: x"),
        ({"supervised": False}, "this stack is not running; start it: ./headwater up"),
        ({"asked": []}, "this stack is not running; start it: ./headwater up"),
        ({"problems": [Problem("table t", "stopped", "why")]}, "table t: stopped: why"),
        (
            {"tables": [{"kind": "table", "service": "silver.t", "late": True, "behind_s": 42.4,
                         "target_s": 5.0}]},
            "silver.t: late: 42 s behind, its target is 5 s",
        ),
        (
            {"alerts": [{"kind": "alert", "service": "BronzeCounts", "last_error": "3 short"}]},
            "BronzeCounts: the alert fires: 3 short",
        ),
    ],
)  # fmt: skip
def test_what_is_red_is_a_reason(more: dict[str, Any], reason: str) -> None:
    assert seen(**more).reasons() == [reason]


def test_a_table_that_is_stopped_is_one_reason_and_not_also_late() -> None:
    stopped = {"kind": "table", "service": "silver.t", "late": True, "behind_s": None}
    trouble = Problem("table t", "stopped", "why")
    assert seen(problems=[trouble], tables=[stopped]).reasons() == ["table t: stopped: why"]


def test_the_rows_keep_their_columns_and_say_what_they_are() -> None:
    rows = seen(problems=[Problem("connector source", "retrying", "away", "look")]).rows()
    assert [row["kind"] for row in rows] == ["service"] * 3 + ["trouble"]
    assert (rows[-1]["service"], rows[-1]["last_error"], rows[-1]["hint"]) == (
        "connector source", "away", "look",
    )  # fmt: skip
    assert set(rows[0]) == set(rows[-1])

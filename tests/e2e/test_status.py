"""`status` of a whole stack as data for scripts, and the names that the shell's completion offers."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from app.environment.settings import ROOT
from tests.support.stack import Stack
from tests.support.waiting import until

SOON_S = 180.0
TAB = """
source <("$1" completion bash)
COMP_WORDS=("${@:1}"); COMP_CWORD=$(( $# - 1 ))
_headwater_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def rows(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    """The objects of `status --format json` by their kind."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in stack.answer("status"):
        found.setdefault(row["kind"], []).append(row)
    return found


def test_a_whole_stack_is_well_by_the_exit_code_but_for_alerts_of_other_tests(
    stack: Stack,
) -> None:
    """Ignore alerts of other tests on this stack, which break rules and end services."""

    def reasons() -> list[str]:
        ended = stack.run("status", "--check", expect=None)
        said = ended.stderr.splitlines()
        assert (ended.stdout, ended.returncode) == ("", 4 if said else 0)
        return [line for line in said if ": the alert fires: " not in line]

    until(
        reasons,
        lambda left: left == [],
        within_s=SOON_S,
        what="`status --check` has no reason but alerts",
        every_s=2,
    )


def test_each_silver_table_is_there_with_its_state_lag_and_quarantine(stack: Stack) -> None:
    found = rows(stack)
    tables = {row["table"]: row for row in found["table"]}
    movies = tables["movies"]
    assert (movies["service"], movies["state"]) == ("silver.movies", "running")
    assert 0 <= movies["behind_s"] < 600 and movies["quarantined"] == 0
    assert {row["kind"] for row in found["service"]} == {"service"}
    known = {row["service"] for row in found.get("unknown", ())}
    assert ("alerts" in known) == ("prometheus" not in {r["service"] for r in found["service"]
                                                        if r["state"] == "ready"})  # fmt: skip
    assert "silver.*" not in known and "snapshots" not in known


def test_tab_offers_the_tables_of_the_running_stack(stack: Stack) -> None:
    ended = subprocess.run(
        ["bash", "--norc", "-c", TAB, "bash", str(ROOT / "headwater"), "verify", "mov"],
        env={**os.environ, "HEADWATER_HOME": str(stack.home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "movies" in ended.stdout.split()

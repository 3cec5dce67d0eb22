"""Two silver jobs share the tables of one source: each has its own tables, and a table can move."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a stack of two silver jobs, minutes

SOON_S = 180.0
SERVICES = ("--only", "capture", "silver", "tables")
OF_THE_SECOND = {"orders", "ratings"}
OWNERS = "SELECT DISTINCT table_name, job FROM ops.ledger WHERE table_name <> ''"
TITLE = "SELECT title FROM silver.movies WHERE movie_id = 1"
STARS = "SELECT count(*) FROM silver.ratings WHERE customer_id = 1 AND stars = 0.5"


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jobs") / "profile.toml"
    path.write_text('silver_jobs = ["public.orders, public.rating?"]\n')
    return path


@pytest.fixture(scope="module")
def stack(profile: Path) -> Iterator[Stack]:
    with fresh_stack() as fresh:
        fresh.up("--profile", str(profile), *SERVICES)
        yield fresh


def edit(stack: Stack, title: str, stars: float) -> None:
    """One transaction that changes a table of each job."""
    with stack.source() as source, source.transaction():
        source.execute("UPDATE movies SET title = %s WHERE movie_id = 1", [title])
        source.execute("UPDATE ratings SET stars = %s WHERE customer_id = 1", [stars])


def await_equal(stack: Stack, title: str) -> None:
    stack.await_answer(TITLE, [(title,)], within_s=SOON_S)
    assert {row["verdict"] for row in stack.verify()} == {"equal"}


def test_each_job_merges_its_own_tables_and_silver_equals_the_source(stack: Stack) -> None:
    edit(stack, "By two jobs", 0.5)
    await_equal(stack, "By two jobs")
    assert stack.query(STARS)[0][0] > 0
    owners = stack.query(OWNERS)
    assert {table for table, job in owners if job == 2} == OF_THE_SECOND
    assert len(owners) == len({table for table, _ in owners}) > len(OF_THE_SECOND)
    behind = (
        "SELECT count(*) FROM ops.freshness WHERE complete_lsn IS NULL AND last_delta_version > 0"
    )
    stack.await_answer(behind, [(0,)], within_s=SOON_S)


def test_a_job_that_is_away_holds_up_its_own_tables_only(stack: Stack) -> None:
    pid = stack.status()["silver-2"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        edit(stack, "While one is away", 1.0)
        stack.await_answer(TITLE, [("While one is away",)], within_s=SOON_S)
        assert stack.query(STARS)[0][0] > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGKILL)
    stack.await_answer(STARS, [(0,)], within_s=SOON_S)
    await_equal(stack, "While one is away")


def test_a_request_is_carried_out_by_the_job_of_its_table_and_refused_for_tables_of_both(
    stack: Stack,
) -> None:
    refused = stack.run("quarantine", "replay", "--all", expect=1)
    assert "name tables of one of them (`silver_jobs`" in refused.stderr
    for table in ("movies", "orders"):
        stack.run("rebuild", table, timeout_s=300)
    assert {row["verdict"] for row in stack.verify("movies", "orders")} == {"equal"}


def test_a_table_that_moves_to_another_job_loses_nothing(stack: Stack, profile: Path) -> None:
    profile.write_text('silver_jobs = ["public.movies"]\n')
    stack.run("down", timeout_s=300)
    stack.up("--profile", str(profile), *SERVICES)
    edit(stack, "Moved", 1.5)
    await_equal(stack, "Moved")
    until(
        lambda: {table for table, job in stack.query(OWNERS) if job == 2},
        lambda found: "movies" in found,
        within_s=SOON_S,
        what="a batch of movies by the second job",
    )
    profile.write_text("silver_jobs = []\n")
    stack.run("down", timeout_s=300)
    stack.up("--profile", str(profile), *SERVICES)
    edit(stack, "One again", 2.5)
    await_equal(stack, "One again")
    assert "silver-2" not in stack.status()

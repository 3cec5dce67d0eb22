"""The services for jobs are killed at random moments: each run ends, and no reader sees an incomplete list.

Killed are the daemon, the code server, the page, the serving database, a run, a task's attempt, its process and its Spark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.job_faults import create_jobs, kill_under_runs
from tests.support.stack import UP_TIMEOUT_S, Stack, fresh_stack

KILLS = int(os.environ.get("HEADWATER_FAULT_KILLS") or 50)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Stack]:
    """A stack of Trino and the services for jobs."""
    with fresh_stack() as stack:
        stack.run("up", "--jobs", "--only", "jobs", "jobs-daemon", "tables", timeout_s=UP_TIMEOUT_S)
        create_jobs(stack, stack.home / "mine")
        yield stack


@pytest.mark.timeout(3 * 3600)
def test_each_run_ends_and_each_list_is_whole_whatever_is_killed(jobs: Stack, seed: int) -> None:
    kill_under_runs(jobs, seed, KILLS)

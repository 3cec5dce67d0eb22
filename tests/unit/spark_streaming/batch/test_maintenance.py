"""Maintenance reports its work: what was done, what failed and remains, and what is due."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from spark_streaming.batch.maintenance import Maintenance, Run, Work
from spark_streaming.ops.job_metrics import MaintenanceMetrics
from spark_streaming.tables.silver_table import TableOptions

LOOK_COMMITS = 5  # one check every five commits
NAME = "headwater_silver_maintenance"


class Upkeep:
    """Maintenance without tables: the test gives the results of its checks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        nothing: Any = None
        self.maintenance = Maintenance(
            nothing, nothing, nothing, TableOptions(15), metrics=MaintenanceMetrics(self.registry)
        )

    def look(self, work: Work, table: str = "orders") -> None:
        """Run `work` once, with the commits that make it due."""
        for _ in range(LOOK_COMMITS):
            self.maintenance._note(table, work)

    def ended(self) -> None:
        """Wait until all requested work is done."""
        wait([self.maintenance._thread.submit(lambda: None)], timeout=30)

    def value(self, name: str, table: str | None = None) -> float | None:
        labels = {} if table is None else {"table": table}
        return self.registry.get_sample_value(f"{NAME}_{name}", labels)


@pytest.fixture
def upkeep() -> Upkeep:
    return Upkeep()


def vacuumed(commits: int, vacuum: bool, run: Run) -> None:
    with run.doing("vacuum"):
        run.removed += 7


def joined(commits: int, vacuum: bool, run: Run) -> None:
    with run.doing("compact"):
        run.joined += 12


def failed(commits: int, vacuum: bool, run: Run) -> None:
    with run.doing("vacuum"):
        raise OSError("the store does not answer")


def nothing_due(commits: int, vacuum: bool, run: Run) -> None:
    """The usual result of a check."""


def test_a_run_is_counted_with_its_files_and_a_look_without_work_is_not(upkeep: Upkeep) -> None:
    for work in (vacuumed, nothing_due, joined, nothing_due):
        upkeep.look(work)
    upkeep.ended()
    assert upkeep.value("seconds_count") == 2
    assert upkeep.value("removed_files_total") == 7
    assert upkeep.value("joined_files_total") == 12
    assert upkeep.value("failures_total", "orders") == 0
    assert upkeep.value("failing", "orders") == 0


def test_a_failed_step_counts_until_the_same_step_goes_through(upkeep: Upkeep) -> None:
    for work, failing in [(failed, 1), (nothing_due, 1), (joined, 1), (vacuumed, 0)]:
        upkeep.look(work)
        upkeep.ended()
        assert upkeep.value("failing", "orders") == failing, work.__name__
    assert upkeep.value("failures_total", "orders") == 1


def test_one_tables_failure_is_its_own(upkeep: Upkeep) -> None:
    upkeep.look(failed)
    upkeep.look(vacuumed, "movies")
    upkeep.ended()
    assert (upkeep.value("failing", "orders"), upkeep.value("failing", "movies")) == (1, 0)


def test_a_run_that_hangs_is_told_by_how_long_the_oldest_waits(upkeep: Upkeep) -> None:
    assert upkeep.value("waiting_seconds") == 0
    begun, go_on = threading.Event(), threading.Event()

    def hangs(commits: int, vacuum: bool, run: Run) -> None:
        with run.doing("vacuum"):
            begun.set()
            go_on.wait(30)

    upkeep.look(hangs)
    assert begun.wait(30)
    seen = upkeep.value("waiting_seconds")
    upkeep.look(vacuumed)
    later = upkeep.value("waiting_seconds")
    go_on.set()
    upkeep.ended()
    assert seen is not None and later is not None and 0 < seen <= later
    assert upkeep.value("waiting_seconds") == 0

"""Silver follows changes of the source's tables by their policies, and loses nothing."""

from __future__ import annotations

import uuid
from pathlib import Path
from random import Random

import pytest

from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.evolution import FAIL, NEW_VERSION, POLICIES, QUARANTINE
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from tests.spark.evolving import EvolvingJob
from tests.unit.evolving_source import EvolvingSource
from tests.unit.spark_streaming.events.test_evolution_histories import KINDS


def _source() -> EvolvingSource:
    return EvolvingSource(Random(1), KINDS, f"ev_{uuid.uuid4().hex[:8]}")


@pytest.fixture
def job(lake: Lake, tmp_path: Path) -> EvolvingJob:
    """With two rows in silver."""
    made = EvolvingJob(lake, ArrowEngine(), tmp_path, _source())
    for number in (1, 2):
        made.source.insert(number)
    made.catalog.lsn = made.source.lsn
    made.run()
    return made


def _alter(job: EvolvingJob, kind: str) -> None:
    job.source.alter(kind)
    job.catalog.lsn = job.source.lsn


def _insert(job: EvolvingJob, number: int) -> None:
    job.source.insert(number)
    job.catalog.lsn = job.source.lsn


def test_events_of_a_new_shape_wait_in_quarantine_until_the_policy_lets_them_in(
    job: EvolvingJob,
) -> None:
    job.policies(add_column="quarantine")
    before = job.source.content()
    _alter(job, "add_column")
    _insert(job, 3)
    _insert(job, 4)
    job.run()
    assert job.quarantined() == [("add_column", "open")] * 2
    assert job.content() == before
    assert job.recorded() == [("table_added", "applied"), ("add_column", "quarantined")]
    assert job.replay() == ["open", "open"], "the policy is still the same"
    job.restart()
    job.run()
    job.policies(add_column="evolve")
    assert job.replay() == ["replayed", "replayed"]
    assert job.content() == job.source.content()
    assert job.recorded()[-1] == ("add_column", "applied")


def test_fail_stops_the_table_until_the_policy_is_another_one(job: EvolvingJob) -> None:
    job.policies(drop_column="fail")
    before = job.content()
    _alter(job, "drop_column")
    _insert(job, 3)
    [row] = [r for r in job.run() if r.table_name]
    assert row.state == "stopped" and "drop_column" in (row.reason or "")
    assert "[evolution]" in (row.reason or "")
    _insert(job, 4)
    job.run()
    assert job.content() == before
    job.policies(drop_column="evolve")
    job.restart()
    job.settle()
    assert not job.stopped.is_stopped(job.source.topic)
    assert job.content() == job.source.content()
    assert ("drop_column", "stopped") in job.recorded()
    assert ("drop_column", "applied") in job.recorded()
    assert job.quarantined() == []


def test_a_dropped_columns_values_stay_and_newer_rows_have_none(job: EvolvingJob) -> None:
    names = {column.name for column in job.source.columns}
    _alter(job, "drop_column")
    [gone] = names - {column.name for column in job.source.columns}
    _insert(job, 3)
    job.run()
    found = job.content(names=["id", gone])
    assert {row[0]: row[1] is None for row in found} == {1: False, 2: False, 3: True}


def test_a_table_without_events_follows_when_silver_is_complete(job: EvolvingJob) -> None:
    _alter(job, "rename_column")
    job.run()
    job.settle()
    assert job.content() == job.source.content()
    assert job.recorded()[-1] == ("rename_column", "applied")
    versions = ContractStore(job.lake, "").versions(job.source.schema, job.source.table)
    assert [version.version for version in versions] == [1, 2]
    assert versions[1].valid_from_lsn == job.source.lsn


def test_a_new_process_follows_a_quiet_tables_change_without_an_event(job: EvolvingJob) -> None:
    job.run(0)
    job.restart()
    job.run(0)
    _alter(job, "rename_column")
    job.settle()
    assert job.recorded()[-1] == ("rename_column", "applied")
    assert job.content() == job.source.content()


def test_a_drop_is_noted_once_whatever_processes_see_it(job: EvolvingJob) -> None:
    job.source.drop()
    job.catalog.lsn = job.source.lsn
    for _ in range(3):
        job.restart()
        job.settle()
    assert [kind for kind, _ in job.recorded()].count("table_dropped") == 1


@pytest.mark.parametrize("policy", ["quarantine", "fail"])
def test_a_truncate_that_is_held_back_keeps_the_rows(job: EvolvingJob, policy: str) -> None:
    job.policies(table_truncated=policy)
    before = job.content()
    _alter(job, "table_truncated")
    job.run()
    assert job.content() == before
    if policy == "fail":
        assert job.stopped.is_stopped(job.source.topic)
        job.policies(table_truncated="evolve")
        job.restart()
        job.settle()
        assert job.content() == job.source.content()
        return
    assert job.quarantined() == [("table_truncated", "open")]
    _insert(job, 3)
    job.run()
    assert job.replay() == ["replayed"]
    assert job.content() == job.source.content()


def test_a_change_that_is_undone_lets_a_stopped_table_go_on(job: EvolvingJob) -> None:
    job.policies(rename_column="fail")
    kept = list(job.source.columns)
    _alter(job, "rename_column")
    _insert(job, 3)
    job.run()
    assert job.stopped.is_stopped(job.source.topic)
    job.source.columns = kept
    job.source.alter("nothing")
    job.catalog.lsn = job.source.lsn
    job.restart()
    job.settle()
    assert not job.stopped.is_stopped(job.source.topic)


def test_a_dropped_table_is_stopped_where_that_is_its_policy_until_it_comes_again(
    job: EvolvingJob,
) -> None:
    job.policies(table_dropped="fail")
    _insert(job, 3)
    job.source.drop()
    job.catalog.lsn = job.source.lsn
    before = job.source.content()
    job.run()
    job.settle()
    assert job.stopped.is_stopped(job.source.topic)
    assert job.content() == before, "what came before is merged"
    job.restart()
    job.settle()
    assert job.stopped.is_stopped(job.source.topic)
    assert job.recorded()[-1] == ("table_dropped", "stopped")
    _alter(job, "table_recreated")
    _insert(job, 7)
    for _ in range(2):
        job.run()
        job.settle()
        job.restart()  # it retries at once
    assert not job.stopped.is_stopped(job.source.topic)
    assert job.content() == job.source.content()


def test_a_table_that_stopped_for_being_dropped_goes_on_by_another_policy(
    job: EvolvingJob,
) -> None:
    job.policies(table_dropped="fail")
    before = job.content()
    job.source.drop()
    job.catalog.lsn = job.source.lsn
    job.settle()
    assert job.stopped.is_stopped(job.source.topic)
    job.policies(table_dropped="evolve")
    job.restart()
    job.settle()
    assert not job.stopped.is_stopped(job.source.topic)
    assert job.content() == before


HELD_BACK = [
    (kind, policy)
    for kind in KINDS
    for policy in POLICIES[kind].allowed
    if policy in (QUARANTINE, FAIL) and kind != "table_truncated"
]


@pytest.mark.parametrize(("kind", "policy"), HELD_BACK)
def test_what_was_held_back_ends_in_the_sources_rows(
    job: EvolvingJob, kind: str, policy: str
) -> None:
    job.policies(**{kind: policy})
    before = job.content()
    _alter(job, kind)
    _insert(job, 3)
    for _ in range(8):
        job.source.step_rows()
    job.catalog.lsn = job.source.lsn
    job.run()
    assert job.content() == before
    assert job.stopped.is_stopped(job.source.topic) == (policy == FAIL)
    job.policies(**{kind: "evolve"})
    if policy == FAIL:
        job.restart()
    job.settle()
    if policy == QUARANTINE:
        assert {rule for rule, _ in job.quarantined()} == {kind}
        job.replay()
        assert {status for _, status in job.quarantined()} <= {"replayed", "superseded"}
    assert job.content() == job.source.content()
    assert (kind, "applied") in job.recorded()


@pytest.mark.parametrize("kind", [k for k in KINDS if NEW_VERSION in POLICIES[k].allowed])
def test_each_kind_that_may_begin_a_new_version_keeps_the_old_rows_beside(
    job: EvolvingJob, kind: str
) -> None:
    job.policies(**{kind: NEW_VERSION})
    before = job.content()
    names = sorted(column.name for column in job.source.columns)
    _alter(job, kind)
    for _ in range(8):
        job.source.step_rows()
    job.catalog.lsn = job.source.lsn
    job.run()
    job.settle()
    assert job.content() == job.source.content()
    assert job.content(f"{job.topic.silver_name}__v1", names) == before

"""Random histories of a table with rows, definitions, crashes and both merge engines.

Transactions insert, update and delete rows and change their keys; updates leave out large values.
Columns are added, dropped, renamed and widened, the key changes, the table is truncated and made again.
After each batch silver is compared with the source's state at that time. A failing history is reduced
(`tests/support/shrink.py`). `test_engines.py` has overlapping transactions.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from spark_streaming.storage.lake import Lake
from spark_streaming.tables.engine_protocol import MergeEngine
from tests.spark.evolving import EvolvingJob
from tests.support.shrink import check_history, random_of
from tests.unit.evolving_source import EvolvingSource
from tests.unit.spark_streaming.events.test_evolution_histories import KINDS

STEPS = 20
BEGINNING = -1  # the state before the first step


class Cut(Exception):
    """Simulates the death of the process."""


def _cut(*_: object) -> None:
    raise Cut


@pytest.mark.parametrize("notes", [False, True], ids=["looked_at", "noted_by_the_source"])
def test_silver_is_the_source_after_each_batch_of_a_random_history(
    lake: Lake,
    engine: MergeEngine,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    notes: bool,
) -> None:
    def play(steps: Sequence[int]) -> None:
        monkeypatch.setattr(
            "spark_streaming.ops.ledger.LEDGER", f"ops/ledger_{uuid.uuid4().hex[:8]}"
        )
        name = f"ev_{uuid.uuid4().hex[:8]}"
        source = EvolvingSource(random_of(seed, BEGINNING), KINDS, name)
        source.insert(1)
        job = EvolvingJob(lake, engine, tmp_path, source)
        job.catalog.notes = notes
        job.catalog.lsn = source.lsn
        if not notes:
            job.run()  # a table's first contract comes from the catalog when the job first sees the table
        for step in steps:
            source.random = random_of(seed, step)
            source.step()
            # Read after each change, like by a job that keeps up; events may be late.
            job.catalog.lsn = source.lsn
            if job.taken and not notes:
                job.topics.evolver.check([job.topic])
            if source.random.random() < 0.35:
                _run_some(job, source.random, monkeypatch)
        job.run()
        job.settle()
        assert job.content() == source.content()
        assert job.quarantined() == []

    check_history(seed, STEPS, play)


def _run_some(job: EvolvingJob, random: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a batch of some waiting events, perhaps with a crash; then compare if the state allows it."""
    count = random.randint(0, len(job.source.events) - job.taken)
    # A new process knows changes with waiting events only from the source's records.
    may_crash = job.catalog.notes or not job.topic.pendings
    if may_crash and random.random() < 0.3:
        with monkeypatch.context() as patched:
            patched.setattr(job.ledger, "append", _cut)
            with pytest.raises(Cut):
                job.run(count)
        job.restart()
        job.repeat()
    else:
        job.run(count)
    wanted = [content for end, content in job.source.contents if end == job.taken]
    if wanted and job.taken:
        assert job.content() in wanted

"""Random histories of a table, with changes of the table, crashes and both merge engines.

Rows come, change, get other keys and go, in transactions of several; updates leave out large values;
columns come, go, are renamed and get wider, the key changes, the table is truncated and made again.
After each batch silver is compared with the source as it was then; what fails is made smaller
(`tests/support/shrink.py`). Transactions that overlap: `test_engines.py`.
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
BEGINNING = -1  # what is there before the first step


class Cut(Exception):
    """The process died here."""


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
            job.run()  # a table's first contract is what the catalog has when it is met
        for step in steps:
            source.random = random_of(seed, step)
            source.step()
            # Looked at after each change, as in a job that keeps up; events may be late.
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
    """A batch of some of the events that wait, perhaps with a crash; compare if it may be."""
    count = random.randint(0, len(job.source.events) - job.taken)
    # Of changes whose events wait a new process knows only what the source notes.
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

"""The compared version of a silver table has exactly the rows that the ledger's row describes.

Random histories on real Delta tables change rows and tables and kill the process at any
step; silver is checked after each batch and each kill.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.lake.lakehouse import newest_entries
from app.lake.pin import committed_names, version_before_the_next_merge
from spark_streaming.fold.keyed import Folded
from spark_streaming.ops.ledger import WHOLE_BATCH, Ledger
from spark_streaming.schema.topics import Topics
from spark_streaming.tables.engine_protocol import Commit, MergeResult
from spark_streaming.tables.engines.arrow_merge import ArrowEngine
from spark_streaming.tables.silver_table import CONTRACT_ID, SilverTable
from tests.spark.evolving import EvolvingJob
from tests.support.disk_lake import DiskLake
from tests.support.examples import examples
from tests.support.shrink import check_history, random_of
from tests.unit.evolving_source import EvolvingSource
from tests.unit.spark_streaming.events.test_evolution_histories import KINDS

HISTORIES, STEPS = 24, 14
MERGE = "headwater:q:orders"


@pytest.mark.parametrize(
    ("told", "commits", "wanted"),
    [
        (2, [["x"], [], [MERGE], [], []], 4),
        (2, [[], [], [MERGE], [], [CONTRACT_ID], [], [f"{MERGE}:before_version_3"], []], 5),
        (2, [[], [], [MERGE], ["headwater:replay:7"], [f"{MERGE}:resume"]], 3),
        (2, [[], [], [MERGE], ["headwater:rebuild:9"]], 2),
        (1, [[], [MERGE], ["headwater:another-query:orders"]], 1),
        (None, [[], [CONTRACT_ID], [MERGE]], 1),
        (1, [[], [MERGE], None, []], 1),
        (9, [[], [MERGE]], 1),
    ],
)
def test_versions_go_on_up_to_the_next_merge_of_the_job_whatever_its_name(
    told: int | None, commits: list[list[str] | None], wanted: int
) -> None:
    found = version_before_the_next_merge(told, len(commits) - 1, lambda v: commits[v])
    assert found == wanted


class Killed(BaseException):
    """Simulates the death of the process."""


class Mortal(ArrowEngine):
    """Merges, and may die after the commit."""

    random: Random | None = None

    def merge(self, table: SilverTable, folded: Folded, commit: Commit) -> MergeResult:
        result = super().merge(table, folded, commit)
        if self.random is not None and self.random.random() < 0.3:
            raise Killed
        return result


class Play:
    """One history: a source, its job, and the source's state after each step."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.lake, self.engine = DiskLake(folder / uuid.uuid4().hex), Mortal()
        self.source = EvolvingSource(random_of(seed, -1), KINDS, f"ev_{uuid.uuid4().hex[:8]}")
        self.states: list[tuple[int, list[str], Counter[tuple[Any, ...]]]] = []
        self.source.insert(1)
        self.job = EvolvingJob(self.lake, self.engine, folder, self.source)
        self.job.catalog.notes = True
        self.note()
        self.job.run()
        self.compared = 0

    def note(self) -> None:
        self.job.catalog.lsn = self.source.lsn
        names = sorted(column.name for column in self.source.columns)
        self.states.append((len(self.source.events), names, self.source.content()))

    def step(self, random: Random, monkeypatch: pytest.MonkeyPatch) -> None:
        """Change the source; perhaps run a batch, perhaps kill it at any step."""
        self.source.random = random
        self.source.step()
        self.note()
        if random.random() < 0.5:
            return
        count = random.randint(0, len(self.source.events) - self.job.taken)
        if random.random() < 0.5:
            self.job.run(count)
            self.check()
            return
        self._cut(count, random, monkeypatch)
        self.job.restart()
        self.check()
        self.job.repeat()
        self.check()

    def _cut(self, count: int, random: Random, monkeypatch: pytest.MonkeyPatch) -> None:
        def killed(*_: object, **__: object) -> None:
            raise Killed

        steps: list[tuple[type, str] | None] = [
            (Ledger, "append"),
            (Topics, "apply_pending"),
            (SilverTable, "adopt"),
            None,
        ]
        where = random.choice(steps)
        with monkeypatch.context() as patched, contextlib.suppress(Killed):
            self.engine.random = random
            if where is not None:
                patched.setattr(where[0], where[1], killed)
            self.job.run(count)
        self.engine.random = None

    def check(self) -> None:
        """Check that the pinned version is the source's state at the row's offsets, and complete up to its claim."""
        rows = self.job.ledger.handle().to_pyarrow_table()
        name = f"{self.source.table}"
        entry = newest_entries(rows).get(name)
        if entry is None:
            return
        path = self.lake.silver_path(name)
        newest = self.lake.table(path).version()
        version = version_before_the_next_merge(
            entry.delta_version, newest, lambda number: committed_names(self.lake, path, number)
        )
        reached = entry.offsets.get(self.source.topic, {}).get(0, 0)
        self._equals(version, reached)
        claimed = max(
            (r["complete_lsn"] or 0 for r in rows.to_pylist() if r["table_name"] == WHOLE_BATCH),
            default=0,
        )
        committed = max((count for count, lsn in self.source.ends if lsn <= claimed), default=0)
        if entry.state == "running":
            assert committed <= reached, f"complete to {claimed} without its events"

    def _equals(self, version: int, reached: int) -> None:
        table = self.lake.table(self.lake.silver_path(self.source.table), version)
        have = set(table.schema().to_arrow().names)
        wanted = [one for one in self.states if one[0] == reached and have >= set(one[1])]
        if not wanted:
            return  # the batch ends in the middle of a transaction
        found = []
        for _, names, content in wanted:
            rows = table.to_pyarrow_table(columns=names)
            found.append(Counter(zip(*(rows[n].to_pylist() for n in names), strict=True)))
            if found[-1] == content:
                self.compared += 1
                return
        raise AssertionError(f"version {version} is not the source at event {reached}: {found[-1]}")


def test_a_pinned_version_is_the_source_at_the_ledgers_offsets_wherever_the_process_is_killed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0
    monkeypatch.setattr("spark_streaming.batch.table_steps.RETRY_PAUSES_S", ())

    def play(history: int, steps: Sequence[int]) -> None:
        nonlocal compared
        played = Play(seed + history, tmp_path)
        for step in steps:
            played.step(random_of(seed + history, step), monkeypatch)
        compared += played.compared

    for history in range(examples(HISTORIES)):
        check_history(seed + history, STEPS, partial(play, history), shrink_s=20)
    assert compared > examples(HISTORIES), "next to nothing was compared"
